"""A shop to which anything happens in any order, and which has to end as `judgement` demands.

The rules below are the actions; hypothesis draws them. What an action does follows from its
arguments alone, so that a seed does the same again - only the moment at which a signal reaches a
worker is the machine's.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from aiokafka import AIOKafkaProducer
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from clickpath.erasure import Request, request_to_record
from clickpath.logs import RawLine
from clickpath.simulation.faults import SENDABLE_FAULTS, with_broken
from stream.erase import erase_user
from tests.promises.shop import PARTITIONS
from tests.promises.stage import USERS, Stage

_MOST_WORKERS: Final = 3
_EVENTS_PER_S: Final = 400.0

#: A rollout that is over in seconds, as far as there is traffic.
_QUICK: Final = ("--shadow-s", "1", "--steps", "30,100", "--step-s", "1", "--least-outcomes", "5")
_NO_GUARDS: Final = (
    *("--log-loss-excess", "100", "--calibration-excess", "100", "--psi", "1000"),
    *("--agreement", "0", "--failures", "1"),
)


class RandomActions(Stage):
    """Anything happens to brokers, workers, models and events."""

    # Events

    @rule(count=st.integers(50, 800))
    def produce(self, count: int) -> None:
        self._did("produce", count, count)
        self._send(list(islice(self._next, count)))

    @rule(count=st.integers(500, 4_000))
    def keep_producing(self, count: int) -> None:
        """Meanwhile other things happen; what is sent after it waits for it."""
        self._did("keep_producing", count, count)
        self._run(self._sent())
        lines = list(islice(self._next, count))
        self._run(self._begin_to_send(lines, _EVENTS_PER_S))
        self._lines += lines

    @precondition(lambda self: len(self._lines) > self._copied_from)
    @rule(count=st.integers(10, 200))
    def send_again(self, count: int) -> None:
        self._did("send_again", count, count)
        self._send(self._lines[self._copied_from :][-count:])

    @rule(count=st.integers(1, 60), code=st.sampled_from(SENDABLE_FAULTS))
    def poison(self, count: int, code: str) -> None:
        self._did("poison", f"{count} {code}", count)
        clicks = list(islice(self._next, count))
        broken = with_broken([line.value for line in clicks], 1.0, 1, (code,))
        self._send(
            [RawLine(line.key, bad.value, (), "") for line, bad in zip(clicks, broken, strict=True)]
        )

    @rule(number=st.integers(0, USERS - 1))
    def ask_to_erase(self, number: int) -> None:
        self._did("ask_to_erase", number)
        value, headers = request_to_record(Request("erase", self._user(number)))
        self._run(self._sent())
        self._run(self._to_all(value, headers))
        self._erased(number, "erase")

    @precondition(lambda self: self._at.awake and not self._at.hanging)
    @rule(number=st.integers(0, USERS - 1))
    def erase(self, number: int) -> None:
        self._did("erase", number)
        self._run(self._sent())
        self._revive()
        shop = self._at.shop
        receipts = self._run(erase_user(shop.settings, self._user(number), 240))
        assert len(receipts) == 2 * PARTITIONS
        shop.produced += len(receipts)
        self._erased(number, "erase", "forget")

    # Workers

    @precondition(lambda self: len(self._at.workers) < _MOST_WORKERS)
    @rule(awaited=st.booleans())
    def start(self, awaited: bool) -> None:
        # Without its Triton it begins on the fallback policy, and is not ready.
        awaited = awaited and (self._at.triton is None or self._at.triton_answers)
        self._did("start", "and wait" if awaited else "")
        worker = self._run(self._at.join())
        if awaited:
            self._run(self._ready(worker))

    @precondition(lambda self: len(self._at.workers) < _MOST_WORKERS - 1)
    @rule()
    def start_two(self) -> None:
        self._did("start_two")
        self._run(self._at.join())
        self._run(self._at.join())

    @precondition(lambda self: self._at.awake)
    @rule()
    def stop(self) -> None:
        self._did("stop")
        self._revive()
        self._run(self._at.leave(self._at.awake[0]))

    @precondition(lambda self: self._at.workers)
    @rule(number=st.integers(0, _MOST_WORKERS - 1), seconds=st.floats(0.0, 1.5))
    def kill(self, number: int, seconds: float) -> None:
        self._did("kill", f"{number} after {seconds:.2f} s")
        self._run(asyncio.sleep(seconds))
        places = [*self._at.workers]
        self._run(self._at.kill(places[number % len(places)]))

    @precondition(lambda self: self._at.awake)
    @rule()
    def pause(self) -> None:
        self._did("pause")
        self._revive()
        self._at.pause(self._at.awake[0])

    @precondition(lambda self: self._at.paused)
    @rule(seconds=st.floats(0.0, 5.0))
    def resume(self, seconds: float) -> None:
        self._did("resume", f"after {seconds:.2f} s")
        self._run(asyncio.sleep(seconds))
        self._at.wake()

    # Models

    @precondition(lambda self: self._at.versions)
    @rule(number=st.integers(0, 2), at_once=st.booleans())
    def promote(self, number: int, at_once: bool) -> None:
        version = self._at.versions[number]
        self._did("promote", f"{version}{' at once' if at_once else ''}")
        how = ("--at-once", *_NO_GUARDS) if at_once else ()
        self._models("promote", version, "--force", *_QUICK, *how)
        self._promoted = True

    @precondition(lambda self: self._promoted)
    @rule()
    def roll_back(self) -> None:
        self._did("roll_back")
        self._promoted = False
        self._models("rollback")

    @precondition(lambda self: self._at.triton_answers)
    @rule(count=st.integers(0, 1_000))
    def kill_predictor(self, count: int) -> None:
        self._did("kill_predictor")
        self._run(self._at.kill_triton())
        self.produce(count)

    @precondition(lambda self: self._at.triton_answers)
    @rule(count=st.integers(0, 1_000))
    def hang_predictor(self, count: int) -> None:
        self._did("hang_predictor")
        self._at.hang_triton()
        self.produce(count)

    @precondition(lambda self: self._at.triton is not None and not self._at.triton_answers)
    @rule(seconds=st.floats(0.0, 3.0))
    def return_predictor(self, seconds: float) -> None:
        self._did("return_predictor", f"after {seconds:.2f} s")
        self._run(asyncio.sleep(seconds))
        self._run(self._at.return_triton())

    # The broker

    @precondition(lambda self: self.BROKER == "apache-kafka" and self._news)
    @rule()
    def restart_broker(self) -> None:
        self._did("restart_broker")
        self._restarted_at = len(self._lines)
        self._run(self._at.restart_broker())

    @precondition(lambda self: self.BROKER == "apache-kafka")
    @rule(seconds=st.floats(0.5, 6.0))
    def hang_broker(self, seconds: float) -> None:
        self._did("hang_broker", f"for {seconds:.2f} s")
        self._run(self._at.hang_broker(seconds))

    # What the rules are made of

    @property
    def _news(self) -> bool:
        """Whether anything was sent since the broker was restarted."""
        return len(self._lines) > self._restarted_at

    def _user(self, number: int) -> str:
        users = sorted({line.key for line in self._clicks if line.key is not None})
        return users[number % len(users)].decode()

    def _erased(self, number: int, *steps: str) -> None:
        for step in steps:
            request = Request("erase" if step == "erase" else "forget", self._user(number))
            self._lines.append(RawLine(None, *request_to_record(request), ""))
        self._copied_from = len(self._lines)

    async def _to_all(self, value: bytes, headers: tuple[tuple[str, bytes | None], ...]) -> None:
        shop = self._at.shop
        producer = AIOKafkaProducer(bootstrap_servers=shop.settings.bootstrap_servers, acks="all")
        await producer.start()
        topic = shop.settings.clicks_topic
        for number in range(PARTITIONS):
            await producer.send_and_wait(topic, value, partition=number, headers=list(headers))
        await producer.stop()
        shop.produced += PARTITIONS
