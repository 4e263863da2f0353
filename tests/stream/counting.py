"""A job whose state shows every lost, repeated or reordered record, and what it should be."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from stream.batch.app import BatchApp, batch_app
from stream.batch.disk import DiskStore
from stream.batch.records import Chunk, OutputRecord
from stream.batch.table import KeyedTable
from stream.batch.view import Store
from stream.batch.worker import run_app
from stream.connection import Connection

PARTITIONS = 4

#: Runs a test with states in memory and on disk; its fixture is `store_kind`.
on_both_stores = pytest.mark.parametrize("store_kind", ["memory", "rocksdb"], indirect=True)
SESSION_S = 2.0
PATIENCE_S = 90.0


class Tally(NamedTuple):
    """A key's state: last applied offset, number of records, chain over their values."""

    stamp: int
    count: int
    chain: int

    def apply(self, offset: int, value: bytes) -> Tally:
        return Tally(offset, self.count + 1, zlib.crc32(value, self.chain))


EMPTY = Tally(-1, 0, 0)

#: A record that deletes the state of its key.
ERASE = b"erase"
_LAYOUT = struct.Struct(">qII")


def dumps(tally: Tally) -> bytes:
    return _LAYOUT.pack(*tally)


def loads(data: bytes) -> Tally:
    return Tally(*_LAYOUT.unpack(data))


@dataclass
class Job:
    """Names of one test's topics and group."""

    servers: str
    name: str
    folder: Path | None = None

    def store(self) -> Store | None:
        """A store for one more worker: in memory, or on a disk of its own."""
        if self.folder is None:
            return None
        return DiskStore(Path(mkdtemp(dir=self.folder)))

    @property
    def topic(self) -> str:
        return f"{self.name}-in"

    @property
    def out(self) -> str:
        return f"{self.name}-out"

    @property
    def changelog(self) -> str:
        return f"{self.name}-users-changelog"


@dataclass
class Worker:
    """A running application of the job."""

    app: BatchApp
    users: KeyedTable[Tally]
    stop: asyncio.Event
    processed: list[tuple[int, int]] = field(default_factory=list)
    exit_code: int | None = None

    def states(self) -> dict[bytes, Tally]:
        views = [self.users.partition(each) for each in self.users.partitions]
        return {key: view[key] for view in views for key in view}


def counting_app(
    job: Job,
    *,
    stamped: bool = False,
    around: Callable[[Chunk], Awaitable[None]] | None = None,
    outputs: bool = False,
    **settings: Any,
) -> Worker:
    """An application that tallies; `around` is awaited for each chunk before it is applied."""
    usual = {"rebalance_timeout_s": 10.0, "commit_interval_s": 0.2, "chunk_records": 100}
    app = batch_app(
        job.name,
        connection=Connection(job.servers),
        **{"session_timeout_s": SESSION_S, "store": job.store(), **usual, **settings},
    )
    clicks = app.topic(job.topic, batch=True)
    users = app.keyed_table("users", source=clicks, dumps=dumps, loads=loads)
    worker = Worker(app, users, asyncio.Event())

    @app.agent(clicks, name="clicks")
    async def on_clicks(chunks: AsyncIterator[Chunk]) -> None:
        async for chunk in chunks:
            view = users.partition(chunk.partition)
            changed: dict[bytes, Tally | None] = {}
            for record in chunk.records:
                assert record.key is not None
                assert record.value is not None
                known = changed[record.key] if record.key in changed else view.get(record.key)
                tally = known or EMPTY
                if stamped and record.offset <= tally.stamp:
                    continue
                if record.value == ERASE:
                    changed[record.key] = None
                    continue
                changed[record.key] = tally.apply(record.offset, record.value)
            if around is not None:
                await around(chunk)
            if outputs:
                sent = [OutputRecord(job.out, each.key, each.value) for each in chunk.records]
                await app.outputs.send(chunk.partition, sent)
            users.write(chunk.partition, changed)
            worker.processed += [(chunk.partition, record.offset) for record in chunk.records]

    return worker


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    """Runs an application for the time of the context."""
    task = asyncio.create_task(run_app(worker.app, stop=worker.stop))
    try:
        yield worker
    finally:
        worker.stop.set()
        worker.exit_code = await asyncio.wait_for(task, PATIENCE_S)


async def until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Waits for a condition, for at most `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - conditions of parts that tell nobody
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


def finished(*workers: Worker) -> int:
    """How many records are behind what workers' partitions have finished.

    A lag of 0 does not tell: until a partition was fetched for the first time its end is not known.
    """
    parts = [each.app.progress.partitions.values() for each in workers]
    return sum(part.acked for some in parts for part in some)


async def produce(job: Job, count: int, first: int = 0, users: int = 200) -> dict[bytes, Tally]:
    """Writes records and returns the state that they alone lead to, stamps aside."""
    producer = AIOKafkaProducer(bootstrap_servers=job.servers, acks="all", max_batch_size=64 << 10)
    await producer.start()
    expected: dict[bytes, Tally] = {}
    try:
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        for number in range(first, first + count):
            user = (number * 7919) % users
            key, value = b"user-%d" % user, b"record-%d" % number
            part = user % PARTITIONS
            if batches[part].append(key=key, value=value, timestamp=None) is None:
                await producer.send_batch(batches[part], job.topic, partition=part)
                batches[part] = producer.create_batch()
                batches[part].append(key=key, value=value, timestamp=None)
            expected[key] = expected.get(key, EMPTY).apply(0, value)
        for part, batch in enumerate(batches):
            await (await producer.send_batch(batch, job.topic, partition=part))
        await producer.flush()
    finally:
        await producer.stop()
    return expected


async def erase(job: Job, users: Iterable[int]) -> None:
    """Has the states of users deleted."""
    producer = AIOKafkaProducer(bootstrap_servers=job.servers, acks="all")
    await producer.start()
    try:
        for user in users:
            await producer.send_and_wait(
                job.topic, ERASE, key=b"user-%d" % user, partition=user % PARTITIONS
            )
    finally:
        await producer.stop()


async def oracle(job: Job) -> dict[bytes, Tally]:
    """The states that everything on the topic leads to, stamps aside."""
    states: dict[bytes, Tally] = {}
    for _, key, value in await read_all(job.servers, job.topic):
        assert key is not None
        assert value is not None
        if value == ERASE:
            states.pop(key, None)
        else:
            states[key] = states.get(key, EMPTY).apply(0, value)
    return states


def wrong(found: dict[bytes, Tally], expected: dict[bytes, Tally]) -> list[bytes]:
    """Keys whose count or chain is not the expected one."""
    return [
        key
        for key in found.keys() | expected.keys()
        if found.get(key, EMPTY)[1:] != expected.get(key, EMPTY)[1:]
    ]


async def read_all(servers: str, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Every record of a topic: partition, key, value."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, fetch_max_wait_ms=50, isolation_level="read_committed"
    )
    await consumer.start()
    found = []
    try:
        consumer.subscribe([topic])
        await consumer._client.force_metadata_update()
        numbers = consumer.partitions_for_topic(topic) or ()
        consumer.unsubscribe()
        partitions = [TopicPartition(topic, each) for each in numbers]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while True:
            fetched = await consumer.getmany(timeout_ms=300)
            if not fetched and all(consumer.highwater(each) is not None for each in partitions):
                return found
            for partition, records in fetched.items():
                found += [(partition.partition, each.key, each.value) for each in records]
    finally:
        await consumer.stop()


async def committed(job: Job) -> int:
    """Sum of the group's committed offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=job.servers, group_id=job.name)
    await consumer.start()
    try:
        offsets = [
            await consumer.committed(TopicPartition(job.topic, each)) for each in range(PARTITIONS)
        ]
        return sum(each or 0 for each in offsets)
    finally:
        await consumer.stop()


async def handled(job: Job, records: int) -> None:
    """Waits until so many records are behind the committed offsets.

    A worker that the group has lost for being slow has processed them and does them once more.
    """
    async with asyncio.timeout(PATIENCE_S):
        while await committed(job) < records:
            pass
