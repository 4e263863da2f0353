"""A shop with all that belongs to it - broker, models, Triton, workers - where each can fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from serving.embedded import shipped_model
from serving.local_server.server import LocalServer
from serving.repository.config import ServingPlan
from serving.repository.versions import add_version
from stream.broker import EmbeddedBroker
from stream.process import WorkerProcess
from tests.kafka.apache import ApacheKafka
from tests.promises.shop import Shop, names_of_its_own
from tests.promises.versions import Site, of_another_mind, twin_of_shipped

#: Where scores come from: one model in the worker; versions that are switched; one model that has
#: too little time; a Triton that comes and goes, with one model or with versions.
Scorer = Literal["one", "versions", "hurried", "triton", "triton-versions"]

#: Seconds for one call, where answers may be missing.
_SHORT_S: Mapping[Scorer, str] = {
    "hurried": "0.004",
    "triton": "1",
    "triton-versions": "1",
}

#: Well below the deadline of a call elsewhere.
_SLEEP_S: Final = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a shop is made of.

    Attributes:
        broker: "embedded" or "apache-kafka".
        mode: How it delivers.
        scorer: Where scores come from.
        store: Where states are kept.
        named: Whether workers have names, for static membership.
        standby: Whether another worker keeps up with the states of each partition.
    """

    broker: str = "embedded"
    mode: str = "at-least-once"
    scorer: Scorer = "one"
    store: str = "memory"
    named: bool = False
    standby: bool = False


class Installation:
    """One shop, from an empty broker on.

    Args:
        kind: What it is made of.
        folder: Empty, for everything that it keeps.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        self.broker: EmbeddedBroker | ApacheKafka = (
            EmbeddedBroker() if kind.broker == "embedded" else ApacheKafka()
        )
        self.triton: LocalServer | None = None
        self.hanging = False
        self.versions: list[str] = []
        #: Workers by their place; who comes back to a place has its name and its disk.
        self.workers: dict[int, WorkerProcess] = {}
        #: Paused places, with when that began, the longest pause first.
        self.paused: dict[int, float] = {}
        #: Whether a worker slept for so long that a call to its model may have been given up.
        self.overslept = False
        #: Whether a worker may have ended by itself.
        self.excused = self.transactional

    @property
    def transactional(self) -> bool:
        """Whether consumers see each record once."""
        return self.kind.mode == "transactional"

    @property
    def failing(self) -> bool:
        """Whether scores may be missing."""
        return self.triton is not None or self.kind.scorer == "hurried" or self.overslept

    @property
    def awake(self) -> list[int]:
        """Places of workers that are not paused."""
        return [place for place in self.workers if place not in self.paused]

    @property
    def triton_answers(self) -> bool:
        """Whether there is a Triton that is neither gone nor hangs."""
        return self.triton is not None and self.triton.running and not self.hanging

    @property
    def log(self) -> Path:
        """What all workers printed."""
        return self._folder / "worker.log"

    async def open(self) -> None:
        """Starts all but workers."""
        self.broker.start()
        environ = {
            **names_of_its_own(),
            "CLICKPATH_DELIVERY": self.kind.mode,
            "CLICKPATH_SESSION_TIMEOUT_S": "3",
            "CLICKPATH_COMMIT_INTERVAL_S": "0.3",
            "CLICKPATH_STANDBY_REPLICAS": str(int(self.kind.standby)),
            # A slow machine must not change what is decided.
            "CLICKPATH_PREDICT_DEADLINE_S": _SHORT_S.get(self.kind.scorer, "60"),
        }
        versions, on_triton = self._folder / "versions", self.kind.scorer.startswith("triton")
        if on_triton:
            add_version(versions, shipped_model(), ServingPlan(backend="python"))
            self.triton = LocalServer(versions, ["clickpath"])
            self.triton.start()
            environ["CLICKPATH_TRITON_URL"] = self.triton.url
        if self.kind.scorer.endswith("versions"):
            environ["CLICKPATH_MODEL_REPOSITORY"] = str(versions)
        self.shop = Shop(self.broker.bootstrap_servers, self._folder, environ)
        await self.shop.create_topics()
        if self.kind.scorer.endswith("versions"):
            self.site = Site({"model_repository": str(versions)}, self.triton)
            twin = twin_of_shipped(self._folder / "twin")
            other = of_another_mind(self._folder / "other")
            for model in (shipped_model(), twin, other):
                self.versions.append(await self.site.add(self.shop, model))

    async def join(self) -> WorkerProcess:
        """Starts a worker at the first place that is free."""
        place = next(n for n in range(len(self.workers) + 1) if n not in self.workers)
        return await self._start(place)

    async def leave(self, place: int) -> None:
        """Has a worker stop."""
        worker = self._gone(place)
        assert await worker.stop() in (0, -signal.SIGTERM) or self.excused, worker.log_tail(40)

    async def kill(self, place: int) -> None:
        """Ends a worker as a crash does."""
        await self._gone(place).kill()

    def pause(self, place: int) -> None:
        """Lets a worker hang."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.workers[place].pid, signal.SIGSTOP)
        self.paused[place] = time.monotonic()

    def wake(self) -> None:
        """Ends the longest pause."""
        place = next(iter(self.paused))
        self.overslept |= time.monotonic() - self.paused.pop(place) > _SLEEP_S
        # It may have ended of itself just before it was paused.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.workers[place].pid, signal.SIGCONT)

    async def revive(self) -> int:
        """Starts workers again that ended by themselves, as a supervisor does; how many.

        A worker may end when another one took its place while it hung, in transactional delivery,
        or when it lost its broker.
        """
        # A moment for the news of it.
        await asyncio.sleep(0.01)
        ended = [place for place, each in self.workers.items() if each.exit_code is not None]
        for place in ended:
            worker = self._gone(place)
            assert self.excused, worker.log_tail(40)
            await self._start(place)
        return len(ended)

    async def restart_broker(self) -> None:
        """Ends the broker as a crash does, and starts it on what it has kept."""
        assert isinstance(self.broker, ApacheKafka)
        self.excused = True
        self.broker.kill()
        await asyncio.to_thread(self.broker.start)

    async def hang_broker(self, seconds: float) -> None:
        """Nobody answers for a while, and connections stay."""
        assert isinstance(self.broker, ApacheKafka)
        self.excused = True
        [node] = self.broker.nodes
        node.pause()
        await asyncio.sleep(seconds)
        node.go_on()

    async def kill_triton(self) -> None:
        """Ends Triton as a crash does."""
        assert self.triton is not None
        self.triton.signal(signal.SIGKILL)
        await asyncio.to_thread(self.triton.stop)
        self.hanging = False

    def hang_triton(self) -> None:
        """Connections stay, nobody answers."""
        assert self.triton is not None
        self.triton.signal(signal.SIGSTOP)
        self.hanging = True

    async def return_triton(self) -> None:
        """Triton answers again, at its old address."""
        assert self.triton is not None
        if self.triton.running:
            self.triton.signal(signal.SIGCONT)
        else:
            await asyncio.to_thread(self.triton.start)
        self.hanging = False

    async def close(self) -> None:
        """Ends everything at once."""
        for place in [*self.workers]:
            await self.kill(place)
        if self.triton is not None:
            if self.hanging:
                self.triton.signal(signal.SIGCONT)
            self.triton.stop()
        self.broker.stop()

    async def _start(self, place: int) -> WorkerProcess:
        environ = {}
        if self.kind.named:
            environ["CLICKPATH_INSTANCE_ID"] = f"worker-{place}"
        if self.kind.store == "rocksdb":
            disk = self._folder / f"disk-{place}"
            environ |= {"CLICKPATH_STORE": "rocksdb", "CLICKPATH_STORE_DIR": str(disk)}
        self.workers[place] = worker = self.shop.worker(environ)
        await worker.start()
        return worker

    def _gone(self, place: int) -> WorkerProcess:
        self.paused.pop(place, None)
        return self.workers.pop(place)
