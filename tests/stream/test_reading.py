"""Reading a topic to its present end, while others write to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from stream.connection import Connection
from stream.reading import read_topic
from tests.stream.counting import Job

pytestmark = pytest.mark.broker


@asynccontextmanager
async def written_to(job: Job) -> AsyncIterator[None]:
    """Somebody writes to the topic again and again, a record or a few at a time."""
    producer = AIOKafkaProducer(bootstrap_servers=job.servers, acks="all", linger_ms=5)
    await producer.start()

    async def write() -> None:
        for n in range(100_000):
            await producer.send_and_wait(job.out, b"%d" % n)

    await producer.send_and_wait(job.out, b"the first")
    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        await producer.stop()


async def test_a_topic_that_is_written_to_is_read_to_the_end_that_it_had(job: Job) -> None:
    async with written_to(job), asyncio.timeout(60):
        found = [record.value async for record in read_topic(Connection(job.servers), job.out)]

    assert b"the first" in found


@pytest.mark.parametrize("count", [0, 1, 3, 700])
async def test_no_record_is_left_out(job: Job, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=job.servers, acks="all", linger_ms=50)
    await producer.start()
    for sent in [await producer.send(job.out, b"%d" % n) for n in range(count)]:
        await sent
    await producer.stop()

    found = [record.value async for record in read_topic(Connection(job.servers), job.out)]

    assert sorted(found, key=lambda value: int(value or b"")) == [b"%d" % n for n in range(count)]


async def written_then_and_later(servers: str, topic: str) -> int:
    """Twenty batches, some milliseconds without, and five more; the time in between."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    for n in range(20):
        await producer.send_and_wait(topic, b"%d" % n, partition=0)
    between_ms = time.time_ns() // 1_000_000 + 20
    while time.time_ns() // 1_000_000 < between_ms + 20:
        pass  # the clock goes on
    for n in range(20, 25):
        await producer.send_and_wait(topic, b"%d" % n, partition=0)
    await producer.stop()
    return between_ms


async def reads_from_a_time_on(servers: str, topic: str) -> None:
    between_ms = await written_then_and_later(servers, topic)
    connection = Connection(servers)

    async def since(ms: int) -> list[int]:
        read = read_topic(connection, topic, since_ms=ms)
        return [int(record.value or b"") async for record in read]

    assert await since(between_ms) == [*range(20, 25)]
    assert await since(0) == [*range(25)]
    # The embedded broker knows of no end, and gives all; who reads looks at the times.
    assert await since(between_ms + 3_600_000) in ([], [*range(25)])


async def test_records_before_a_time_are_not_fetched(job: Job) -> None:
    await reads_from_a_time_on(job.servers, job.out)
