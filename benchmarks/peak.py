"""Programs run one after the other, each with its time and its peak of memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from clickpath.simulation import simulate
from clickpath.simulation.faults import shuffled_within, with_duplicates, with_stragglers
from clickpath.window import Window
from clickpath.wire import click_to_json

_DISORDER_MS = 20_000


class Ran(NamedTuple):
    """What a program printed, how long it took, and the most memory it held."""

    stdout: str
    seconds: float
    peak_mb: float


def python(*arguments: str) -> Ran:
    """Runs Python with some arguments to its end.

    Raises:
        SystemExit: It failed.
    """
    begun_s = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        stdout = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun_s
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}:\n{stdout}")
    return Ran(stdout, seconds, usage.ru_maxrss / 1024)


def conditions() -> str:
    """What was measured on what."""
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f} before the start"
    )


def write_clicks(path: Path, events: int, users: int, seed: int) -> None:
    """Writes clicks as they arrive: 2 % copies, disorder, one in 1,000 too late."""
    clicks = with_stragglers(simulate(events, users, seed), 0.001, 2 * Window().lateness_ms, seed)
    arrived = with_duplicates(shuffled_within(clicks, _DISORDER_MS, seed), 0.02, seed)
    with path.open("wb") as file:
        for click in arrived:
            file.write(click_to_json(click) + b"\n")


if __name__ == "__main__":
    where, *numbers = sys.argv[1:]
    write_clicks(Path(where), *map(int, numbers))
