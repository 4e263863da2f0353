"""Reading a topic to its present end, while others write to it."""

import asyncio
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
