"""Rules of standbys: what follows a changelog, and what it is worth when its partition comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition

from stream.batch.aside import Aside
from stream.batch.memory import MemoryStore
from stream.batch.progress import BatchProgress
from stream.batch.records import Chunk
from stream.batch.standby import Standbys
from stream.clients import Consumer
from tests.stream.counting import (
    PARTITIONS,
    PATIENCE_S,
    Job,
    Worker,
    counting_app,
    erase,
    finished,
    handled,
    on_both_stores,
    oracle,
    produce,
    read_all,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.broker, on_both_stores]

USERS = 200


def worker(job: Job, **settings: object) -> Worker:
    return counting_app(job, standby_replicas=1, **settings)


def keeps_up(one: Worker, standbys: int) -> bool:
    """Whether a worker has so many standbys, and all of what their changelogs have."""
    progress = one.app.progress
    lags = [each.lag_records for each in progress.standbys.values()]
    return progress.recovered and lags == [0] * standbys


async def shared(one: Worker, other: Worker) -> None:
    """Waits until both have half of the partitions, and the states of the other half."""
    half = PARTITIONS // 2
    await until(
        lambda: all(
            len(each.app.progress.assignment) == half and keeps_up(each, half)
            for each in (one, other)
        ),
        "each has half of the partitions, and follows the other half",
    )


async def followed(job: Job, one: Worker, other: Worker) -> None:
    """Waits until their standbys have everything that now is on the changelog.

    A lag of 0 does not tell: it is as old as the last answer of the broker.
    """
    written = len(await read_all(job.servers, job.changelog))
    await until(
        lambda: (
            written
            == sum(
                standby.position or 0
                for each in (one, other)
                for standby in each.app.progress.standbys.values()
            )
        ),
        "all that was written is here",
    )


async def alone_with(job: Job, one: Worker) -> None:
    """Waits until a worker has everything, and compares its states with the oracle."""
    await until(
        lambda: len(one.app.progress.assignment) == PARTITIONS and one.app.progress.recovered,
        "it has all partitions",
    )
    assert wrong(one.states(), await oracle(job)) == []


async def test_whoever_follows_a_partition_takes_it_over_without_reading_what_it_has(
    job: Job,
) -> None:
    first, second = worker(job), worker(job)
    await produce(job, 4_000, users=USERS)
    async with running(first):
        await handled(job, 4_000)
        async with running(second):
            await shared(first, second)
            # What it was given at once, nobody had followed there.
            assert second.app.progress.restored_records > 0
            await produce(job, 4_000, first=4_000, users=USERS)
            await handled(job, 8_000)
            await followed(job, first, second)
        await alone_with(job, first)
        assert first.app.progress.restored_records == 0
        assert first.app.progress.standbys == {}


async def test_what_changed_and_what_was_erased_elsewhere_is_right_after_each_promotion(
    job: Job,
) -> None:
    # Who loses the group to a busy machine reads its states again, and rightly.
    patient = {"session_timeout_s": 4.0, "broker_heartbeat_interval": 0.5}
    first, done = worker(job, **patient), 2_000
    await produce(job, done, users=USERS)
    async with running(first):
        await handled(job, done)
        # Each time half of the partitions go to somebody else, and come back.
        for turn in range(3):
            other = worker(job, **patient)
            async with running(other):
                await shared(first, other)
                await produce(job, 1_000, first=done, users=USERS)
                await erase(job, range(10 * turn, 10 * turn + 10))
                done += 1_010
                await handled(job, done)
                await followed(job, first, other)
            await alone_with(job, first)
            assert len(first.states()) == USERS - 10
        assert first.app.progress.restored_records == 0


async def test_what_no_changelog_has_is_not_kept_for_later(job: Job) -> None:
    """A worker that is not let finish keeps no value that nobody else knows."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def outlast(_: Chunk) -> None:
        if len(first.processed) >= 1_000 and not may_end.is_set():
            begun.set()
            await may_end.wait()

    # Nothing is committed by itself: all that it did is known to nobody.
    first = worker(job, around=outlast, rebalance_timeout_s=2.0, commit_interval_s=3600.0)
    second = worker(job)
    await produce(job, 4_000, users=USERS)
    async with running(first):
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        async with running(second):
            await until(lambda: first.app.progress.rebalances >= 2, "the rebalance is over")
            may_end.set()
            await until(
                lambda: (
                    len(first.app.progress.assignment) == PARTITIONS // 2
                    and finished(first, second) == 4_000
                ),
                "all records processed",
            )
        await alone_with(job, first)


async def test_a_worker_alone_with_replicas_wanted_works_as_ever(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    await produce(job, 2_000, users=USERS)
    alone = worker(job)
    async with running(alone):
        await handled(job, 2_000)
        await alone_with(job, alone)
        assert alone.app.progress.standbys == {}
    assert [each for each in caplog.messages if "standby" in each] == [
        "too few workers for the standby replicas: 1 wanted for each partition, "
        "0 possible with 1 in the group"
    ]


class Starting(Consumer):
    """A consumer that tells when it has started."""

    def __init__(self, servers: str, then: Callable[[], None]) -> None:
        super().__init__(bootstrap_servers=servers, auto_offset_reset="none")
        self._then = then

    async def start(self) -> None:
        await super().start()
        self._then()


async def test_standbys_that_are_taken_away_while_their_client_starts_are_followed_when_they_return(
    job: Job,
) -> None:
    partition = TopicPartition(job.topic, 0)
    await produce(job, 400)
    clients = 0

    def started() -> None:
        nonlocal clients
        clients += 1
        if clients == 1:
            standbys.assign({})

    progress = BatchProgress()
    standbys = Standbys(lambda: Starting(job.servers, started), progress)
    store = job.store() or MemoryStore()
    aside: Aside[bytes] = Aside(lambda number: store.open(job.topic, number, bytes))
    standbys.assign({partition: aside})
    standbys.resume()
    following = asyncio.create_task(standbys.run())
    try:
        await until(lambda: clients > 0 or following.done(), "its client has started")
        standbys.assign({partition: aside})
        standbys.resume()
        await until(
            lambda: progress.standbys[partition].lag_records == 0 or following.done(), "it follows"
        )
        assert aside.view(0).begin == 400 // PARTITIONS
    finally:
        following.cancel()
        await asyncio.wait([following])
        aside.keep(())
