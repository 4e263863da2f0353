"""`clickpath triton up`: a real tritonserver that comes, says where it is, and goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clickpath.cli import main
from clickpath.errors import UsageError
from serving.local_server.environment import server_environment
from serving.repository.config import ServingPlan
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.client import loaded_version
from serving.triton.loading import load_model


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.triton
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_says_where_it_is_and_leaves_nothing_behind(
    tritonserver: None,
    tmp_path: Path,
    model_directory: Path,
    repository: Path,
    number: signal.Signals,
    code: int,
) -> None:
    models = tmp_path / "models"
    add_version(models, model_directory, ServingPlan(backend="python"))
    # A relative path, as people type it: the server itself works in another folder.
    command = [sys.executable, "-m", "clickpath", "triton", "up", "models", "--json"]
    path = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        said = json.loads(process.stdout.readline())
        assert (said["name"], said["versions"]) == ("clickpath", [1])
        address = Address(url=said["url"])
        assert loaded_version(address, "clickpath", 0, wait_s=5).version == 1
        add_version(models, model_directory, ServingPlan(backend="python"))
        asyncio.run(load_model(address, "clickpath"))
        assert loaded_version(address, "clickpath", 0, wait_s=5).version == 2

        process.send_signal(number)

        assert process.wait(60) == code
    assert not alive(said["pid"])


def test_without_a_checkout_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"of a checkout of Clickpath, and {tmp_path} is none"):
        server_environment(tmp_path)


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        (None, "there is no version of a model clickpath in "),
        ("onnxruntime", "the local tritonserver has the Python backend only, and "),
    ],
)
def test_a_repository_that_it_cannot_serve_is_one_sentence(
    tmp_path: Path,
    model_directory: Path,
    backend: str | None,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = tmp_path / "models"
    if backend is not None:
        add_version(models, model_directory, ServingPlan(backend=backend))  # type: ignore[arg-type]

    assert main(["triton", "up", str(models)]) == 2

    assert capsys.readouterr().err.startswith(f"clickpath: {sentence}")


def test_a_port_that_is_none_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["triton", "up", str(tmp_path), "--port", "70000"]) == 2
    assert capsys.readouterr().err.startswith("clickpath: --port is 70000; a port is from 0")
