"""A real Apache Kafka in a process of its own: KRaft, one node, on free ports of the loopback.

Its jars come from Maven, by the `pom.xml` beside this file, into a cache that is named after it.
It is small - 256 MB of heap - and what it holds is gone when it stops.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Self

from stream.broker import BrokerError, answers
from stream.process import free_port

_POM = Path(__file__).with_name("pom.xml")
_HOST = "127.0.0.1"
_JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

_CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.index.size.max.bytes=65536
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


class ApacheKafka:
    """One node; a context manager, like the embedded broker.

    Args:
        config: Further settings of the broker.
        start_timeout_s: How long it may take to answer its first request.
    """

    def __init__(self, config: str = "", *, start_timeout_s: float = 60.0) -> None:
        self._config = config
        self._start_timeout_s = start_timeout_s
        self._port = 0
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients; known once it has started."""
        return f"{_HOST}:{self._port}"

    def start(self) -> Self:
        """Starts it, on new storage or on that of an earlier start, and waits for an answer.

        Raises:
            Missing: It cannot be had on this machine.
            BrokerError: It ended, or gave no answer in time.
        """
        classpath = f"{jars()}/*"
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="clickpath-kafka-"))
            self._port = free_port()
            self._format(classpath)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(classpath, "kafka.Kafka", str(self._properties)),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """Ends it at once; its storage stays for the next `start`."""
        process, self._process = self._process, None
        if process is not None:
            # An orderly stop takes seconds and keeps nothing that a test would miss.
            process.kill()
            process.wait()

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

    @property
    def _properties(self) -> Path:
        assert self._folder is not None
        return self._folder / "server.properties"

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return self._folder / "log"

    @staticmethod
    def _command(classpath: str, program: str, *arguments: str) -> list[str]:
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *_JAVA, quiet, "-cp", classpath, program, *arguments]

    def _format(self, classpath: str) -> None:
        places = {"host": _HOST, "port": self._port, "controller": free_port()}
        text = _CONFIG.format(folder=self._folder, **places) + self._config
        self._properties.write_text(text, encoding="utf-8")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        done = subprocess.run(
            self._command(classpath, *tool), cwd=self._folder, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise BrokerError(f"Apache Kafka has no storage: {done.stdout[-500:]}{done.stderr}")

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not answers(self._port):
            last_words = self._log.read_text(errors="replace")[-1000:]
            if process.poll() is not None:
                raise BrokerError(f"Apache Kafka ended with {process.returncode}: {last_words}")
            if time.monotonic() > deadline:
                raise BrokerError(f"Apache Kafka gave no answer: {last_words}")
            time.sleep(0.05)
