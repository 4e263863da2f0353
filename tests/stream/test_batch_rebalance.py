"""Rules of the batch engine when partitions move between workers."""

from __future__ import annotations

import asyncio

import pytest

from stream.batch.records import Chunk
from tests.stream.counting import (
    PARTITIONS,
    PATIENCE_S,
    Job,
    Worker,
    counting_app,
    on_both_stores,
    produce,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.broker]


def _two(job: Job) -> tuple[Worker, Worker]:
    """Workers that take some time; the first one more, until the second one has a share."""

    async def take_some_time(_: Chunk) -> None:
        alone = len(first.processed) > 1_000 and not second.app.progress.assignment
        await asyncio.sleep(0.1 if alone else 0.01)

    first, second = (counting_app(job, around=take_some_time, chunk_records=50) for _ in range(2))
    return first, second


async def test_workers_that_come_and_go_under_load_lose_and_repeat_nothing(job: Job) -> None:
    count = 16_000
    expected = await produce(job, count // 2)
    first, second = _two(job)
    async with running(first):
        await until(lambda: len(first.processed) > 1_000, "the first worker is busy")
        async with running(second):
            await until(lambda: len(second.processed) > 1_000, "both workers are busy")
            assert 0 < len(second.app.progress.assignment) < PARTITIONS
            more = await produce(job, count // 2, first=count // 2)
        for key, tally in more.items():
            expected[key] = expected[key]._replace(count=expected[key].count + tally.count)
        await until(
            lambda: len(first.processed) + len(second.processed) >= count, "all records processed"
        )
        assert len(first.app.progress.assignment) == PARTITIONS
        found = first.states()
    assert {key: each.count for key, each in found.items()} == {
        key: each.count for key, each in expected.items()
    }
    assert len(set(first.processed + second.processed)) == count
    assert len(first.processed) + len(second.processed) == count


async def test_the_order_of_a_users_records_survives_a_rebalance(job: Job) -> None:
    expected = await produce(job, 8_000)
    first, second = _two(job)
    async with running(first):
        await until(lambda: len(first.processed) > 1_000, "the first worker is busy")
        async with running(second):
            await until(
                lambda: len(first.processed) + len(second.processed) >= 8_000, "all processed"
            )
            assert wrong({**first.states(), **second.states()}, expected) == []
            assert first.states().keys() & second.states().keys() == set()


@on_both_stores
async def test_a_partition_that_stays_keeps_its_state_without_reading_the_changelog(
    job: Job,
) -> None:
    await produce(job, 2_000)
    first, second = counting_app(job), counting_app(job)
    async with running(first):
        await until(lambda: len(first.processed) >= 2_000, "all records processed")
        async with running(second):
            await until(lambda: bool(second.app.progress.partitions), "the second has joined")
            await until(lambda: first.app.progress.recovered, "the first is back")
            assert first.app.progress.restored_records == 0
            assert len(first.states()) + len(second.states()) == 200


@on_both_stores
async def test_a_chunk_that_outlasts_the_rebalance_writes_nothing_and_comes_again(
    job: Job,
) -> None:
    expected = await produce(job, 4_000)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def outlast(_: Chunk) -> None:
        if len(first.processed) >= 1_000 and not may_end.is_set():
            begun.set()
            await may_end.wait()

    first = counting_app(job, around=outlast, rebalance_timeout_s=2.0)
    second = counting_app(job)
    async with running(first):
        await asyncio.wait_for(begun.wait(), 30)
        async with running(second):
            await until(lambda: first.app.progress.rebalances >= 2, "the rebalance is over")
            processed = len(first.processed)
            may_end.set()
            await until(
                lambda: len(first.processed) + len(second.processed) >= 4_000, "all processed"
            )
            assert len(first.processed) >= processed
            assert wrong({**first.states(), **second.states()}, expected) == []
    assert first.exit_code == 0


async def test_a_rebalance_in_the_midst_of_a_stop_leaves_nothing_behind(job: Job) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def hold(_: Chunk) -> None:
        begun.set()
        await may_end.wait()

    first, second = counting_app(job, around=hold), counting_app(job)
    await produce(job, 400)
    async with running(first):
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        first.stop.set()
        coordinator = first.app.batch_group.consumer._coordinator
        async with running(second):
            await until(lambda: coordinator._performed_join_prepare, "it is told of a rebalance")
            may_end.set()
            await until(lambda: len(second.app.progress.assignment) == PARTITIONS, "it has gone")
    await until(
        lambda: asyncio.all_tasks() == {asyncio.current_task()}, "nothing of them goes on", 10
    )
