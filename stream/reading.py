"""Reads a topic from its beginning to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from clickpath.errors import UsageError
from stream.connection import Connection
from stream.refusals import started

#: How long to wait for records before looking again whether the end is reached.
_WAIT_MS: Final = 200

#: How long a broker may take for a record before it counts as gone.
_PATIENCE_MS: Final = 5_000


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
            for records in fetched.values():
                for record in records:
                    yield _stored(record)
            for partition in missing - unseen:
                if await consumer.position(partition) >= ends[partition]:
                    missing.remove(partition)
                    consumer.pause(partition)


async def read_records(
    connection: Connection, wanted: Mapping[TopicPartition, Collection[int]]
) -> AsyncIterator[StoredRecord]:
    """Yields the records at these offsets that are still there, in order within a partition.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not read one of the topics.
    """
    async with started(_consumer(connection), connection) as consumer:
        for partition, offsets in wanted.items():
            consumer.assign([partition])
            begin = (await consumer.beginning_offsets([partition]))[partition]
            missing = sorted(each for each in offsets if each >= begin)
            while missing:
                consumer.seek(partition, missing[0])
                fetched = await consumer.getmany(timeout_ms=_PATIENCE_MS, max_records=5000)
                records = fetched.get(partition)
                if not records:
                    break
                chosen = set(missing)
                for record in records:
                    if record.offset in chosen:
                        yield _stored(record)
                missing = [each for each in missing if each > records[-1].offset]


def _stored(record: ConsumerRecord) -> StoredRecord:
    return StoredRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )
