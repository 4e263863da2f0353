"""Standbys on a real broker: transactions, and a changelog that is cut or made anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stream.batch.aside import Aside
from stream.batch.memory import PartitionView
from stream.batch.progress import BatchProgress
from stream.batch.records import RawRecord
from stream.batch.standby import Standbys
from tests.stream.counting import (
    PARTITIONS,
    Job,
    counting_app,
    oracle,
    produce,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def test_a_standby_of_transactions_takes_over_with_the_right_states(job: Job) -> None:
    first, second = (
        counting_app(job, transactional=True, outputs=True, standby_replicas=1) for _ in range(2)
    )
    half = PARTITIONS // 2
    await produce(job, 4_000)
    async with running(first):
        async with running(second):
            await until(
                lambda: all(
                    len(each.app.progress.standbys) == half and each.app.progress.recovered
                    for each in (first, second)
                ),
                "each follows half of the partitions",
            )
            await produce(job, 4_000, first=4_000)
            await until(
                lambda: len(first.processed) + len(second.processed) >= 8_000, "all processed"
            )
            await until(
                lambda: all(
                    part.committed == part.acked
                    for each in (first, second)
                    for part in each.app.progress.partitions.values()
                ),
                "all of it committed",
            )
            written = await ends(job)
            await until(
                lambda: all(
                    standby.position == written[partition]
                    for partition, standby in first.app.progress.standbys.items()
                ),
                "what the other one has written is here, the ends of its transactions too",
            )
        await until(
            lambda: (
                len(first.app.progress.assignment) == PARTITIONS and first.app.progress.recovered
            ),
            "it has all partitions",
        )
        assert wrong(first.states(), await oracle(job)) == []
        assert first.app.progress.restored_records == 0


async def ends(job: Job) -> dict[tuple[str, int], int]:
    """The end of each partition of the changelog."""
    consumer = AIOKafkaConsumer(bootstrap_servers=job.servers)
    await consumer.start()
    try:
        partitions = [TopicPartition(job.changelog, each) for each in range(PARTITIONS)]
        return {(*each,): end for each, end in (await consumer.end_offsets(partitions)).items()}
    finally:
        await consumer.stop()


class Followed:
    """A standby of partition 0, and the changelog that it follows."""

    def __init__(self, job: Job, has: int) -> None:
        self.job = job
        self.partition = TopicPartition(job.changelog, 0)
        view = PartitionView(int)
        view.restored([RawRecord(has - 1, 0, b"long gone", b"1", ())], has)
        self.aside: Aside[int] = Aside(lambda _: PartitionView(int))
        self.aside.keep({0})
        self.aside.put(0, view)

    def states(self) -> dict[bytes, int]:
        return dict(self.aside.view(0))

    async def write(self, values: range) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.job.servers)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(*self.partition[:1], b"%d" % value, b"a", partition=0)
        finally:
            await producer.stop()

    async def cut(self, offset: int) -> None:
        """Deletes what lies before an offset, as a topic that is not compacted alone lets one."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.job.servers)
        await admin.start()
        try:
            policy = {"cleanup.policy": "compact,delete"}
            topic = ConfigResource(ConfigResourceType.TOPIC, self.job.changelog, configs=policy)
            await admin.alter_configs([topic])
            await admin.delete_records({self.partition: RecordsToDelete(before_offset=offset)})
        finally:
            await admin.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        standbys = Standbys(self._consumer, BatchProgress())
        standbys.assign({self.partition: self.aside})
        standbys.resume()
        task = asyncio.create_task(standbys.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self.job.servers,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )


async def test_a_standby_behind_the_beginning_of_its_changelog_begins_anew(job: Job) -> None:
    followed = Followed(job, has=2)
    await followed.write(range(6))
    await followed.cut(4)
    async with followed.running():
        # What was cut off may have been the deletion of what it had.
        await until(lambda: followed.states() == {b"a": 5}, "nothing but what the changelog has")


async def test_a_standby_of_a_changelog_that_was_made_anew_begins_anew(job: Job) -> None:
    followed = Followed(job, has=100)
    await followed.write(range(3))
    async with followed.running():
        await until(lambda: followed.states() == {b"a": 2}, "nothing but what the changelog has")
        await followed.write(range(3, 5))
        await until(lambda: followed.states() == {b"a": 4}, "it goes on")
