"""The demo as a process: what it leaves behind when it is told to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_a_demo_that_is_told_to_end_takes_broker_and_worker_with_it(
    repository: Path, tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "clickpath", "demo", "--events", "1000000"],
        cwd=repository,
        # An address of the pages for production does not keep the demo from asking its worker.
        env={
            **os.environ,
            "PYTHONPATH": str(repository),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(tmp_path),
            "CLICKPATH_WEB_HOST": "127.0.0.2",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stderr is not None
    with demo.stderr as lines:
        assert any(line.startswith("4/5") for line in lines)
        demo.send_signal(signal.SIGTERM)
        assert "Traceback" not in lines.read()

    assert demo.wait(30) == 128 + signal.SIGTERM
    assert list(tmp_path.glob("clickpath-*")) == []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in process.read_bytes()
        except OSError:
            continue
