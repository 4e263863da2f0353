"""A real Apache Kafka in processes of its own: KRaft, one node or more, on free loopback ports.

Its jars come from Maven, by the `pom.xml` beside this file, into a cache that is named after it.
It is small - 256 MB of heap a node - and what it holds is gone when it stops.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Self

from stream.broker import BrokerError, answers
from stream.connection import Connection
from stream.process import free_port

_POM = Path(__file__).with_name("pom.xml")
_HOST = "127.0.0.1"
_JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

_CONFIG = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
log.dirs={data}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.index.size.max.bytes=65536
log.cleaner.backoff.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
"""


class Missing(Exception):
    """Apache Kafka cannot be had on this machine; the message says why."""


def jars() -> Path:
    """The folder of Kafka's jars, resolved by Maven when it is not there yet.

    Raises:
        Missing: There is no Java or no Maven, or Maven found not everything.
    """
    if shutil.which("java") is None:
        raise Missing("there is no java on this machine (Apache Kafka needs 17 or newer)")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clickpath"
    folder = home / f"kafka-{sha256(_POM.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        if shutil.which("mvn") is None:
            raise Missing("there is no mvn on this machine, which finds Apache Kafka's jars")
        home.mkdir(parents=True, exist_ok=True)
        with (home / "kafka.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _resolve(folder)
    return folder


def _resolve(folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    pom = shutil.copy(_POM, part)
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    done = subprocess.run(
        ["mvn", "--batch-mode", "--quiet", "--file", pom, *copy],
        cwd=part,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if "ERROR" in line][:1]
        raise Missing(f"mvn did not find Apache Kafka: {''.join(said) or done.stderr[-300:]}")
    part.rename(folder)


class Node:
    """One node of a cluster: broker and controller in one process.

    Args:
        number: Its number, from 1.
        folder: What it keeps; made by whoever starts it, and gone when it stops.
        data: Where its logs lie, if not in that folder.
    """

    def __init__(self, number: int, folder: Path, data: Path | None = None) -> None:
        self.number = number
        self.folder = folder
        self.data = data or folder / "data"
        self.port = free_port()
        self.controller = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def properties(self) -> Path:
        """Its settings."""
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "log"

    def start(self, classpath: str) -> None:
        """Starts it, without waiting for anything."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(classpath, "kafka.Kafka", str(self.properties)),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout_s: float) -> None:
        """Waits until it answers.

        Raises:
            BrokerError: It ended, or gave no answer in time.
        """
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while not answers(self.port):
            last_words = self.log.read_text(errors="replace")[-1000:]
            if self._process.poll() is not None:
                code = self._process.returncode
                raise BrokerError(f"Apache Kafka ended with {code}: {last_words}")
            if time.monotonic() > deadline:
                raise BrokerError(f"Apache Kafka gave no answer: {last_words}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once; its storage stays for the next `start`."""
        process, self._process = self._process, None
        if process is not None:
            # An orderly stop takes seconds and keeps nothing that a test would miss.
            process.kill()
            process.wait()

    def ended(self, timeout_s: float) -> bool:
        """Waits until it has ended by itself; False if it has not by then."""
        assert self._process is not None
        try:
            return bool(self._process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            return False

    def pause(self) -> None:
        """Lets it hang: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def command(classpath: str, program: str, *arguments: str) -> list[str]:
    """How a program of Kafka is run."""
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return ["java", *_JAVA, quiet, "-cp", classpath, program, *arguments]


class ApacheKafka:
    """A cluster; a context manager, like the embedded broker.

    Args:
        config: Gives further settings of a node; they win over those made here.
        nodes: Number of nodes.
        format_arguments: Further arguments of the tool that makes the storage.
        data: Where the logs of the first node lie, if not in a folder of its own.
        start_timeout_s: How long it may take to answer its first request.
    """

    def __init__(
        self,
        config: Callable[[Node], str] = lambda _: "",
        *,
        nodes: int = 1,
        format_arguments: Sequence[str] = (),
        data: Path | None = None,
        start_timeout_s: float = 240.0,
    ) -> None:
        self._config = config
        self._count = nodes
        self._format_arguments = format_arguments
        self._data = data
        self._start_timeout_s = start_timeout_s
        self._folder: Path | None = None
        self.nodes: list[Node] = []

    @property
    def bootstrap_servers(self) -> str:
        """Addresses for clients; known once it has started."""
        return ",".join(f"{_HOST}:{node.port}" for node in self.nodes)

    @property
    def connection(self) -> Connection:
        """How clients reach it; known once it has started."""
        return Connection(self.bootstrap_servers)

    def start(self) -> Self:
        """Starts it, on new storage or on that of an earlier start, and waits for its answers.

        Raises:
            Missing: It cannot be had on this machine.
            BrokerError: A node ended, or gave no answer in time.
        """
        classpath = f"{jars()}/*"
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="clickpath-kafka-"))
                self._make_nodes(self._folder)
                self._format(classpath)
            for node in self.nodes:
                node.start(classpath)
            for node in self.nodes:
                node.wait(self._start_timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self, node: Node) -> None:
        """Starts one node again after it was killed, and waits for its answer.

        Raises:
            BrokerError: It ended, or gave no answer in time.
        """
        node.start(f"{jars()}/*")
        node.wait(self._start_timeout_s)

    def kill(self) -> None:
        """Ends all nodes at once; their storage stays for the next `start`."""
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        """Ends it, and all that it holds."""
        self.kill()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_nodes(self, folder: Path) -> None:
        for number in range(1, self._count + 1):
            place = folder / str(number)
            place.mkdir()
            self.nodes.append(Node(number, place, self._data if number == 1 else None))
        voters = ",".join(f"{each.number}@{_HOST}:{each.controller}" for each in self.nodes)
        copies = {"copies": min(3, self._count), "in_sync": min(2, self._count)}
        for node in self.nodes:
            places = {"host": _HOST, "port": node.port, "controller": node.controller}
            text = _CONFIG.format(
                number=node.number, voters=voters, data=node.data, **copies, **places
            )
            node.properties.write_text(text + self._config(node), encoding="utf-8")

    def _format(self, classpath: str) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            *self._format_arguments,
        ]
        runs = [
            subprocess.Popen(
                command(classpath, *tool, "-c", str(node.properties)),
                cwd=node.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for node in self.nodes
        ]
        said = [run.communicate()[0] for run in runs]
        if any(run.returncode for run in runs):
            raise BrokerError(f"Apache Kafka has no storage: {said[0][-800:]}")
