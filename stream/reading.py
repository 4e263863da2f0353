"""Reads a topic from its beginning to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from clickpath.errors import UsageError
from stream.connection import Connection
from stream.refusals import started

#: How long to wait for records before looking again whether the end is reached.
_WAIT_MS: Final = 200


class StoredRecord(NamedTuple):
    """A record as it lies on a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def _consumer(connection: Connection) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **connection.client_arguments(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        # What a crashed worker left in a transaction that was aborted never happened.
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
    )


async def read_topic(connection: Connection, topic: str) -> AsyncIterator[StoredRecord]:
    """Yields every record of a topic, in order of offset within a partition.

    The end of a partition is the larger one of what the broker lists and of the stable offset in
    its first answer to a fetch: some brokers list the base of the last batch. What is written
    later, or in a transaction that is still open, may or may not be among the records.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not read it.
        UsageError: There is no such topic.
    """
    async with started(_consumer(connection), connection) as consumer:
        # A consumer without a subscription knows no partitions of its own accord.
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001
        numbers = cluster.partitions_for_topic(topic)
        if not numbers:
            raise UsageError(f"there is no topic {topic} at {connection.bootstrap_servers}")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        unseen, missing = set(partitions), set(partitions)
        while missing:
            fetched = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=5000)
            for partition in sorted(unseen):
                mark = consumer.last_stable_offset(partition)
                if mark is not None:
                    ends[partition] = max(ends[partition], mark)
                    unseen.remove(partition)
            for partition, records in fetched.items():
                for record in records:
                    yield StoredRecord(
                        record.topic,
                        partition.partition,
                        record.offset,
                        record.timestamp,
                        record.key,
                        record.value,
                        tuple(record.headers),
                    )
            for partition in missing - unseen:
                if await consumer.position(partition) >= ends[partition]:
                    missing.remove(partition)
                    consumer.pause(partition)
