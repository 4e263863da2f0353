"""Brokers come and go: a worker goes on when they are back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from stream.batch.records import Chunk
from stream.broker import TopicSpec, create_topics
from stream.connection import Connection
from tests.kafka.apache import ApacheKafka
from tests.kafka.marks import started_or_skipped
from tests.stream.counting import (
    PARTITIONS,
    Job,
    counting_app,
    produce,
    read_all,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def fragile() -> Iterator[ApacheKafka]:
    """A broker that may be killed."""
    yield from started_or_skipped()


@pytest.mark.parametrize("delivery", ["at-least-once", "transactional"])
async def test_a_worker_goes_on_after_its_broker_was_killed_and_restarted(
    fragile: ApacheKafka, delivery: str
) -> None:
    job = Job(fragile.bootstrap_servers, f"restart-{delivery}")
    topics = {job.topic: TopicSpec(partitions=PARTITIONS), job.out: TopicSpec(partitions=2)}
    topics[job.changelog] = TopicSpec(partitions=PARTITIONS, config={"cleanup.policy": "compact"})
    await create_topics(Connection(job.servers), topics)
    expected = await produce(job, 4_000)

    async def take_some_time(_: Chunk) -> None:
        await asyncio.sleep(0.02)

    worker = counting_app(
        job,
        stamped=True,
        outputs=True,
        around=take_some_time,
        chunk_records=50,
        transactional=delivery == "transactional",
    )
    async with running(worker):
        await until(lambda: len(worker.processed) > 500, "the worker is busy")
        fragile.kill()
        await asyncio.to_thread(fragile.start)
        parts = worker.app.progress.partitions
        await until(
            lambda: sum(each.committed for each in parts.values()) == 4_000, "all committed", 60
        )
        assert wrong(worker.states(), expected) == []
    assert worker.exit_code == 0
    seen = Counter(value for _, _, value in await read_all(job.servers, job.out))
    assert len(seen) == 4_000
    if delivery == "transactional":
        assert set(seen.values()) == {1}
