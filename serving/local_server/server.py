"""The local tritonserver as a process: started, loaded, ready, stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from clickpath.errors import ClickpathError, UsageError
from serving.local_server.environment import ServerEnvironment, server_environment
from serving.repository.config import CONFIG_FILE

_HOST: Final = "127.0.0.1"
_SHARED_MEMORY: Final = Path("/dev/shm")


class ServerError(ClickpathError):
    """The local tritonserver did not start, or ended."""


class LocalServer:
    """One tritonserver on the loopback, in explicit mode; a context manager.

    Args:
        repository: The model repository.
        models: Names of the models that are loaded at the start.
        port: Of gRPC; 0 takes a free one.
        arguments: Further arguments of the server.
        start_timeout_s: How long it may take until the models are ready.
    """

    def __init__(
        self,
        repository: Path,
        models: Sequence[str],
        *,
        port: int = 0,
        arguments: Sequence[str] = (),
        start_timeout_s: float = 90.0,
    ) -> None:
        # Absolute: the server works in a folder of its own.
        self._repository = repository.absolute()
        self._models = tuple(models)
        self._port = port
        self._http_port = self._metrics_port = 0
        self._arguments = tuple(arguments)
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """`host:port` of gRPC; known once it has started, and kept by the next start."""
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts it and waits until its models are ready.

        Raises:
            UsageError: There is no such repository, or the server cannot be had here.
            ServerError: The port is taken, the server ended, or its models are not ready in time.
        """
        if self._process is not None:
            raise ServerError("the local tritonserver runs already")
        for name in self._models:
            self._check(name)
        environment = server_environment()
        self._port, self._http_port, self._metrics_port = _usable_ports(self._port, 0, 0)
        self._folder = Path(tempfile.mkdtemp(prefix="clickpath-triton-"))
        try:
            backends = self._folder / "backends"
            shutil.copytree(environment.backend, backends / "python")
            stub = Path(shutil.copy(environment.stub, backends / "python"))
            stub.chmod(0o700)
            with (self._folder / "log").open("wb") as log:
                # A session of its own: Ctrl-C is for the program that uses the server.
                self._process = subprocess.Popen(
                    [str(environment.program), *self._command(backends)],
                    env=_variables(environment),
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def _check(self, name: str) -> None:
        """Sees to it that the repository has a model that this server can run."""
        config = self._repository / name / CONFIG_FILE
        if not config.is_file():
            raise UsageError(f"{self._repository} is no repository with a model {name}")
        if 'backend: "python"' not in config.read_text(encoding="utf-8"):
            raise UsageError(
                f"the local tritonserver has the Python backend only, and {config} is for another; "
                "`--backend python`, in a repository of its own, writes what it can run"
            )

    def _command(self, backends: Path) -> list[str]:
        return [
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            # A name of its own for what lies in shared memory, so that it can be cleared away.
            f"--backend-config=python,shm-region-prefix-name={backends.parent.name}-",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in self._models),
            "--disable-auto-complete-config",
            f"--grpc-address={_HOST}",
            f"--grpc-port={self._port}",
            f"--http-address={_HOST}",
            f"--http-port={self._http_port}",
            f"--metrics-address={_HOST}",
            f"--metrics-port={self._metrics_port}",
            "--exit-timeout-secs=5",
            *self._arguments,
        ]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        waiting = ["/v2/health/ready", *(f"/v2/models/{name}/ready" for name in self._models)]
        while waiting:
            if process.poll() is not None:
                raise ServerError(
                    f"the local tritonserver ended with code {process.returncode}"
                    f"{self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the local tritonserver is not ready within {self._start_timeout_s:g} s"
                    f"{self._last_words()}"
                )
            if _get(self._http_port, waiting[0])[0] == http.client.OK:
                del waiting[0]
            else:
                time.sleep(0.05)

    def log(self) -> str:
        """What it has said so far."""
        assert self._folder is not None
        return (self._folder / "log").read_text(errors="replace")

    def _last_words(self) -> str:
        said = self.log().strip().splitlines()
        errors = [line for line in said if re.match(r"E\d{4} |error: ", line)]
        # Without one it complains of its arguments, and then explains them all.
        return ": " + (errors[-1] if errors else said[0]) if said else ""

    def served(self) -> dict[str, int]:
        """Its own counts, by metric, over all versions: `nv_inference_request_success` and so on.

        Raises:
            ServerError: It does not answer.
        """
        status, page = _get(self._metrics_port, "/metrics")
        if status != http.client.OK:
            raise ServerError("the local tritonserver shows no metrics")
        counts: dict[str, int] = {}
        for line in page.decode().splitlines():
            if line.startswith("nv_inference"):
                name, value = line.split("{")[0], float(line.rsplit(" ", 1)[1])
                counts[name] = counts.get(name, 0) + int(value)
        return counts

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server alone, not to the processes of its models."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Ends it and the processes of its models; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # The models run in processes of their own, which outlive a server that was killed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        folder, self._folder = self._folder, None
        if folder is not None:
            for region in _SHARED_MEMORY.glob(f"{folder.name}-*"):
                region.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _variables(environment: ServerEnvironment) -> dict[str, str]:
    libraries = [*map(str, environment.libraries), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        # The Python inside a stub takes its packages from the first Python in the path, and from
        # no PYTHONPATH.
        "PATH": f"{environment.programs}:{os.environ.get('PATH', '')}",
        # A repository stays as it was written.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a page; status 0 when nobody answers."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


def _usable_ports(*ports: int) -> list[int]:
    """The ports themselves if nobody listens there; different free ones for zeros."""
    with contextlib.ExitStack() as held:
        usable = []
        for port in ports:
            probe = held.enter_context(contextlib.closing(socket.socket()))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError as error:
                raise ServerError(f"port {port} on {_HOST} is taken: {error.strerror}") from error
            usable.append(int(probe.getsockname()[1]))
        return usable
