"""Rules of the batch engine with one worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from aiokafka import AIOKafkaProducer

from stream.batch.app import batch_app
from stream.batch.records import Chunk
from stream.connection import Connection
from tests.stream.counting import (
    EMPTY,
    PARTITIONS,
    SESSION_S,
    Job,
    Worker,
    committed,
    counting_app,
    dumps,
    loads,
    on_both_stores,
    produce,
    read_all,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.broker, on_both_stores]


async def test_every_record_is_applied_once_and_in_order(job: Job) -> None:
    expected = await produce(job, 5_000)
    async with running(counting_app(job)) as worker:
        await until(lambda: len(worker.processed) >= 5_000, "all records processed")
        assert wrong(worker.states(), expected) == []
    assert worker.exit_code == 0
    assert len(worker.processed) == 5_000


async def test_a_restart_finds_every_state_and_repeats_nothing(job: Job) -> None:
    expected = await produce(job, 3_000)
    async with running(counting_app(job)) as first:
        await until(lambda: len(first.processed) >= 3_000, "all records processed")
    async with running(counting_app(job)) as second:
        await until(lambda: second.app.progress.recovered, "states restored")
        assert wrong(second.states(), expected) == []
    assert second.processed == []


async def test_a_stop_in_the_middle_finishes_the_chunk_and_goes_on_after_it(job: Job) -> None:
    expected = await produce(job, 4_000)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait_in_the_third(_: Chunk) -> None:
        if len(first.processed) >= 200:
            begun.set()
            await may_end.wait()

    first = counting_app(job, around=wait_in_the_third)
    async with running(first):
        await asyncio.wait_for(begun.wait(), 30)
        first.stop.set()
        asyncio.get_running_loop().call_later(0.3, may_end.set)
    assert first.exit_code == 0
    assert 300 <= len(first.processed) < 4_000
    async with running(counting_app(job)) as second:
        await until(lambda: second.app.progress.records + len(first.processed) >= 4_000, "the rest")
        assert wrong(second.states(), expected) == []
    assert len(first.processed) + len(second.processed) == 4_000


async def test_a_chunk_that_raises_stops_the_worker_and_comes_again(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    expected = await produce(job, 2_000)

    async def fail_after_some(_: Chunk) -> None:
        if len(first.processed) >= 500:
            raise ValueError("the model has burnt down")

    first = counting_app(job, around=fail_after_some)
    with caplog.at_level(logging.CRITICAL):
        async with running(first):
            await until(lambda: first.app.crashed, "a crash")
    assert first.exit_code == 1
    assert len(first.processed) == 500
    assert any(
        "offsets" in each.message and "not acknowledged" in each.message for each in caplog.records
    )
    assert await committed(job) == 500
    async with running(counting_app(job)) as second:
        await until(lambda: len(second.processed) >= 1_500, "the rest")
        assert wrong(second.states(), expected) == []
    assert set(first.processed) & set(second.processed) == set()


async def test_a_commit_never_passes_an_unfinished_chunk(job: Job) -> None:
    await produce(job, 1_000)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait_in_the_second(_: Chunk) -> None:
        if worker.processed:
            begun.set()
            await may_end.wait()

    worker = counting_app(job, around=wait_in_the_second)
    async with running(worker):
        await asyncio.wait_for(begun.wait(), 30)
        assert await worker.app.committer.commit()
        assert await committed(job) == 100
        may_end.set()
        await until(lambda: len(worker.processed) >= 1_000, "the rest")
        await worker.app.committer.commit()
        assert await committed(job) == 1_000


async def test_state_written_before_the_chunk_ends_waits_for_its_offset(job: Job) -> None:
    await produce(job, 400)
    written, may_end = asyncio.Event(), asyncio.Event()
    app = batch_app(
        job.name,
        connection=Connection(job.servers),
        session_timeout_s=SESSION_S,
        store=job.store(),
    )
    clicks = app.topic(job.topic, batch=True)
    users = app.keyed_table("users", source=clicks, dumps=dumps, loads=loads)

    @app.agent(clicks, name="clicks")
    async def on_clicks(chunks: AsyncIterator[Chunk]) -> None:
        async for chunk in chunks:
            users.write(chunk.partition, {b"key": EMPTY})
            written.set()
            await may_end.wait()

    worker = Worker(app, users, asyncio.Event())
    async with running(worker):
        await asyncio.wait_for(written.wait(), 30)
        await app.committer.commit()
        assert await read_all(job.servers, job.changelog) == []
        assert await committed(job) == 0
        may_end.set()
        await until(lambda: app.progress.records >= 400, "all records processed")
    assert len(await read_all(job.servers, job.changelog)) == 4


async def test_a_tombstone_deletes_a_state_for_good(job: Job) -> None:
    await produce(job, 400)

    def deleting_app() -> Worker:
        app = batch_app(
            job.name,
            connection=Connection(job.servers),
            session_timeout_s=SESSION_S,
            store=job.store(),
        )
        clicks = app.topic(job.topic, batch=True)
        users = app.keyed_table("users", source=clicks, dumps=dumps, loads=loads)

        @app.agent(clicks, name="clicks")
        async def on_clicks(chunks: AsyncIterator[Chunk]) -> None:
            async for chunk in chunks:
                users.write(chunk.partition, {b"gone": EMPTY, b"stays": EMPTY})
                await app.committer.commit()
                users.write(chunk.partition, {b"gone": None})

        return Worker(app, users, asyncio.Event())

    async with running(deleting_app()) as first:
        await until(lambda: first.app.progress.records >= 400, "all records processed")
        assert set(first.states()) == {b"stays"}
    async with running(deleting_app()) as second:
        await until(lambda: second.app.progress.recovered, "states restored")
        assert set(second.states()) == {b"stays"}


async def test_other_topics_keep_fausts_record_at_a_time_way(job: Job) -> None:
    await produce(job, 40)
    worker = counting_app(job)
    values = []
    other = worker.app.topic(job.out, key_type=bytes, value_type=bytes, value_serializer="raw")

    @worker.app.agent(other, name="other")
    async def on_other(events: AsyncIterator[bytes]) -> None:
        async for value in events:
            values.append(value)

    async with running(worker):
        await until(lambda: len(worker.processed) >= 40, "all records processed")
        await other.send(key=b"k", value=b"one by one")
        await until(lambda: values == [b"one by one"], "the other topic's record")


async def test_progress_tells_lag_commits_and_assignment(job: Job) -> None:
    await produce(job, 1_000)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait_in_the_second(_: Chunk) -> None:
        if worker.processed:
            begun.set()
            await may_end.wait()

    def committed_since(moved_s: float) -> bool:
        return (progress.last_commit_monotonic_s or 0.0) > moved_s + 0.5

    worker = counting_app(job, around=wait_in_the_second)
    progress = worker.app.progress
    assert not progress.recovered
    async with running(worker):
        await asyncio.wait_for(begun.wait(), 30)
        assert progress.recovered
        assert {topic for topic, _ in progress.assignment} == {job.topic}
        await until(lambda: progress.lag_events == 900, "the lag of all partitions is known")
        behind = next(each for each in progress.partitions.values() if each.records)
        assert behind.last_record_ms is not None
        assert behind.lag_s(behind.last_record_ms + 1_500) == 1.5
        await until(lambda: behind.committed == 100, "the first chunk is committed")
        moved_s = progress.last_moved_monotonic_s
        assert moved_s is not None
        await until(lambda: committed_since(moved_s), "commits that find nothing to do")
        assert progress.last_moved_monotonic_s == moved_s
        may_end.set()
        await until(lambda: progress.lag_events == 0, "no lag")
        await until(lambda: progress.last_moved_monotonic_s != moved_s, "it moves again")
        await until(lambda: progress.partitions[job.topic, 0].committed > 0, "a commit")
        assert progress.last_commit_monotonic_s is not None
        assert progress.lag_s(2**50) == 0.0


async def test_a_changelog_of_another_size_stops_the_worker_with_a_reason(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    app = batch_app(
        job.name,
        connection=Connection(job.servers),
        session_timeout_s=SESSION_S,
        store=job.store(),
    )
    clicks = app.topic(job.topic, batch=True)
    users = app.keyed_table("users", source=clicks, changelog=job.out, dumps=dumps, loads=loads)

    @app.agent(clicks, name="clicks")
    async def on_clicks(chunks: AsyncIterator[Chunk]) -> None:
        async for _ in chunks:
            raise AssertionError("no chunk may come")

    worker = Worker(app, users, asyncio.Event())
    async with running(worker):
        await until(lambda: app.crashed, "a crash")
    assert worker.exit_code == 1
    assert f"{job.out} has 2 partitions and its source {job.topic} has 4" in caplog.text


async def test_partitions_take_turns_though_each_is_fetched_in_one_piece(job: Job) -> None:
    await produce(job, 8_000)
    async with running(counting_app(job)) as worker:
        await until(lambda: len(worker.processed) >= 8_000, "all records processed")
    partitions = [partition for partition, _ in worker.processed]
    turns = sum(before != after for before, after in pairwise(partitions))
    # 80 chunks; a partition that is read to its end before the next one makes three turns.
    assert turns > 40


async def test_a_partition_with_nearly_all_records_holds_no_other_one_up(job: Job) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=job.servers, acks="all", max_batch_size=32 << 10)
    await producer.start()
    # Three of four partitions get one record for a thousand of the first, and get it last.
    hot, rest = 30_000, 30
    for number in range(hot):
        await producer.send(job.topic, b"record-%d" % number, key=b"robot", partition=0)
    for number in range(rest):
        for partition in range(1, PARTITIONS):
            await producer.send(job.topic, b"record", key=b"u-%d" % number, partition=partition)
    await producer.flush()
    await producer.stop()

    lags: list[dict[int, int]] = []

    async def look(chunk: Chunk) -> None:
        parts = worker.app.progress.partitions
        lags.append({number: part.lag_events for (_, number), part in parts.items()})

    worker = counting_app(job, fetch_bytes=32 << 10, around=look)
    async with running(worker):
        await until(lambda: len(worker.processed) == hot + 3 * rest, "everything is processed")

    order = [partition for partition, _ in worker.processed]
    last = max(place for place, partition in enumerate(order) if partition != 0)
    assert last < len(order) / 2, "the others waited for the hot one"
    # While it goes on, the hot one alone has a lag.
    assert any(each[0] > hot / 4 and sum(each.values()) == each[0] for each in lags)
