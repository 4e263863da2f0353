"""A shop to which anything happens in any order, and which has to end where one process ends.

The rules below are the actions; hypothesis draws them. What an action does follows from its
arguments alone, so that a seed does the same again - only the moment at which a signal reaches a
worker is the machine's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from clickpath import simulation
from clickpath.erasure import Request, request_to_record
from clickpath.logs import RawLine
from clickpath.simulation.faults import SENDABLE_FAULTS, with_broken
from stream.broker import EmbeddedBroker
from stream.process import WorkerProcess
from tests.kafka.apache import ApacheKafka
from tests.promises.shop import PARTITIONS, Oracle, Shop, lines_of, names_of_its_own

T = TypeVar("T")

_USERS = 40
_MOST_WORKERS = 2

#: What was done since the program began, over all machines; `soak` prints it.
DONE: Counter[str] = Counter()


class RandomActions(RuleBasedStateMachine):
    """Produce, copy, poison, erase, start, stop, kill, pause, resume; then compare."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._lines: list[RawLine] = []
        self._workers: list[WorkerProcess] = []
        self._paused: list[WorkerProcess] = []
        self._broker: EmbeddedBroker | ApacheKafka | None = None

    @initialize(seed=st.integers(0, 1 << 16))
    def open(self, seed: int) -> None:
        kind = os.environ.get("PROVE_BROKER", "embedded")
        self._broker = EmbeddedBroker() if kind == "embedded" else ApacheKafka()
        self._broker.start()
        delivery = os.environ.get("PROVE_MODE", "at-least-once")
        environ = {
            **names_of_its_own(),
            "CLICKPATH_DELIVERY": delivery,
            "CLICKPATH_SESSION_TIMEOUT_S": "3",
            "CLICKPATH_COMMIT_INTERVAL_S": "0.3",
            # A slow machine must not change what is decided.
            "CLICKPATH_PREDICT_DEADLINE_S": "60",
        }
        self._transactional = delivery == "transactional"
        self._shop = Shop(self._broker.bootstrap_servers, Path(self._folder.name), environ)
        self._clicks = lines_of(simulation.simulate(60_000, _USERS, seed=seed))
        self._next = iter(self._clicks)
        self._did("shops")
        self._run(self._shop.create_topics())
        self.produce(500)
        self.start()

    @rule(count=st.integers(50, 800))
    def produce(self, count: int) -> None:
        self._send(list(islice(self._next, count)))
        self._did("produce", count)

    @precondition(lambda self: self._lines)
    @rule(count=st.integers(10, 200))
    def send_again(self, count: int) -> None:
        # Requests have no key: they go to all partitions, and are not for a producer to repeat.
        self._send([line for line in self._lines[-count:] if line.key is not None])
        self._did("send_again", count)

    @rule(count=st.integers(1, 60), code=st.sampled_from(SENDABLE_FAULTS))
    def poison(self, count: int, code: str) -> None:
        clicks = list(islice(self._next, count))
        broken = with_broken([line.value for line in clicks], 1.0, 1, (code,))
        self._send(
            [RawLine(line.key, bad.value, (), "") for line, bad in zip(clicks, broken, strict=True)]
        )
        self._did("poison", count)

    @precondition(lambda self: self._lines)
    @rule(number=st.integers(0, _USERS - 1))
    def erase(self, number: int) -> None:
        users = sorted({line.key for line in self._clicks if line.key is not None})
        user_id = users[number % len(users)].decode()
        value, headers = request_to_record(Request("erase", user_id))
        self._run(self._to_all(value, headers))
        self._lines.append(RawLine(None, value, headers, ""))
        self._did("erase")

    @precondition(lambda self: len(self._workers) < _MOST_WORKERS)
    @rule()
    def start(self) -> None:
        worker = self._shop.worker()
        self._workers.append(worker)
        self._run(worker.start())
        self._did("start")

    @precondition(lambda self: len(self._workers) > len(self._paused))
    @rule()
    def stop(self) -> None:
        worker = next(each for each in self._workers if each not in self._paused)
        self._workers.remove(worker)
        assert self._run(worker.stop()) in (0, -signal.SIGTERM), worker.log_tail(40)
        self._did("stop")

    @precondition(lambda self: self._workers)
    @rule(seconds=st.floats(0.0, 1.5))
    def kill(self, seconds: float) -> None:
        worker = self._workers.pop(0)
        if worker in self._paused:
            self._paused.remove(worker)
        self._run(asyncio.sleep(seconds))
        self._run(worker.kill())
        self._did("kill")

    @precondition(lambda self: len(self._workers) > len(self._paused))
    @rule()
    def pause(self) -> None:
        worker = next(each for each in self._workers if each not in self._paused)
        os.kill(worker.pid, signal.SIGSTOP)
        self._paused.append(worker)
        self._did("pause")

    @precondition(lambda self: self._paused)
    @rule(seconds=st.floats(0.0, 5.0))
    def resume(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))
        os.kill(self._paused.pop(0).pid, signal.SIGCONT)
        self._did("resume")

    def teardown(self) -> None:
        """Brings everything back, lets it finish, and compares."""
        failing = sys.exception() is not None
        try:
            if self._broker is not None and not failing:
                self._compare()
        finally:
            for worker in self._workers:
                self._run(worker.kill())
            self._runner.close()
            if self._broker is not None:
                self._broker.stop()
            self._folder.cleanup()

    def _compare(self) -> None:
        while self._paused:
            self.resume(0.0)
        # A worker that was fenced while it slept may have ended by itself, to be started again.
        ended = [each for each in self._workers if each.exit_code is not None]
        assert self._transactional or not ended, ended[0].log_tail(40)
        self._workers = [each for each in self._workers if each not in ended]
        if not self._workers:
            self.start()
        self._run(self._shop.handled(self._workers[-1], timeout_s=300))
        while self._workers:
            self.stop()
        expected = self._run(Oracle(self._shop.settings).replay(self._lines))
        by_id = self._run(self._shop.interventions())
        assert set(by_id) == expected.ids
        hashed = self._run(self._shop.interventions_hash())
        assert hashed == expected.interventions.hexdigest()
        assert self._run(self._shop.state_hash()) == expected.state_hash
        letters = self._run(self._shop.on(self._shop.settings.dead_letter_topic))
        names = ("clickpath-origin-partition", "clickpath-origin-offset")
        origins = {tuple(dict(each.headers)[name] for name in names) for each in letters}
        assert expected.run is not None
        assert len(origins) == expected.run.tally.dead_letters.total()
        repeated = sum(len(records) - 1 for records in by_id.values())
        if self._transactional:
            assert repeated == 0
        DONE["compared"] += 1
        DONE["interventions"] += len(by_id)
        DONE["raw_duplicates"] += repeated

    def _send(self, lines: list[RawLine]) -> None:
        self._run(self._shop.produce(lines))
        self._lines += lines

    async def _to_all(self, value: bytes, headers: tuple[tuple[str, bytes | None], ...]) -> None:
        shop = self._shop
        producer = AIOKafkaProducer(bootstrap_servers=shop.settings.bootstrap_servers, acks="all")
        await producer.start()
        topic = shop.settings.clicks_topic
        for number in range(PARTITIONS):
            await producer.send_and_wait(topic, value, partition=number, headers=list(headers))
        await producer.stop()
        shop.produced += PARTITIONS

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    @staticmethod
    def _did(what: str, count: int = 1) -> None:
        DONE[what] += count
