"""The virtual environment of the local tritonserver: built once, from pinned requirements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from clickpath.errors import UsageError

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_FACTS: Final = """
import json, sys, sysconfig
of = sysconfig.get_config_var
print(json.dumps([sysconfig.get_path("purelib"), of("LIBDIR"), of("INSTSONAME"),
                  "%d.%d" % sys.version_info[:2]]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEnvironment:
    """Where the parts of an installed tritonserver are.

    Attributes:
        program: The server.
        backend: Folder of the Python backend.
        stub: The program in which the backend runs a model, made for this Python.
        libraries: Folders of shared libraries that the server and the stub need.
        programs: Folder of the Python whose packages a model may import.
    """

    program: Path
    backend: Path
    stub: Path
    libraries: tuple[Path, ...]
    programs: Path


def server_environment(root: Path = _ROOT) -> ServerEnvironment:
    """The environment, built when it is not there yet.

    Args:
        root: A checkout of Clickpath.

    Raises:
        UsageError: This is no checkout, or the environment cannot be built or used here.
    """
    requirements, build = root / "requirements/triton.txt", root / "requirements/build-venv"
    if not (requirements.is_file() and build.is_file()):
        raise UsageError(
            "the local tritonserver is built from requirements/triton.txt of a checkout of "
            f"Clickpath, and {root} is none"
        )
    digest = sha256(requirements.read_bytes() + build.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clickpath"
    venv = cache / f"venv-triton-{digest}"
    if not (venv / ".complete").exists():
        _build([str(build), str(venv), str(requirements)])
    return _parts(venv)


def _build(command: list[str]) -> None:
    built = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = built.stdout.decode(errors="replace").strip()
    print(said, file=sys.stderr)
    if built.returncode != 0:
        last = said.splitlines()[-1] if said else "no word"
        raise UsageError(f"the environment of the local tritonserver cannot be built: {last}")


def _parts(venv: Path) -> ServerEnvironment:
    told = subprocess.run(
        [venv / "bin" / "python", "-c", _FACTS], capture_output=True, text=True, check=True
    )
    packages, library_folder, library, version = json.loads(told.stdout)
    server = Path(packages) / "pytriton" / "tritonserver"
    parts = ServerEnvironment(
        program=server / "bin" / "tritonserver",
        backend=server / "backends" / "python",
        stub=server / "python_backend_stubs" / version / "triton_python_backend_stub",
        libraries=(Path(library_folder), Path(packages) / "nvidia_pytriton.libs"),
        programs=venv / "bin",
    )
    for needed in (parts.program, parts.stub, Path(library_folder) / str(library)):
        if not needed.is_file():
            raise UsageError(
                f"there is no {needed}, which the local tritonserver needs: it runs on Linux, "
                "with a Python from 3.8 to 3.13 that has a shared library"
            )
    return parts
