"""Reads a topic from its beginning, or from a time on, to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from clickpath.errors import StateError, UsageError
from stream.batch.reader import RawReader
from stream.batch.records import RawRecord, Unreadable
from stream.clients import Consumer
from stream.connection import Connection
from stream.refusals import started

#: How long to wait for records before looking again whether the end is reached.
_WAIT_S: Final = 0.2

#: How long a broker may take for a record before it counts as gone.
_PATIENCE_S: Final = 5.0

_CHUNK_RECORDS: Final = 5_000


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
    return Consumer(
        **connection.consumer_arguments(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        # What a crashed worker left in a transaction that was aborted never happened.
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
    )


async def read_topic(
    connection: Connection, topic: str, *, whole: bool = False, since_ms: int | None = None
) -> AsyncIterator[StoredRecord]:
    """Yields every record of a topic, in order of offset within a partition.

    With `since_ms` those before the first one of that time are not fetched, as far as the broker
    knows where it is; the embedded one goes by when records came to it, which is no earlier. Older
    ones may still be among what is yielded.

    A record with a header whose name is no UTF-8 comes with the name escaped. A batch that cannot
    be read is logged with its place and passed over, unless the topic is wanted `whole`.

    The end of a partition is the larger one of what the broker lists and of the stable offset in
    its first answer to a fetch: some brokers list the base of the last batch. What is written
    later, or in a transaction that is still open, may or may not be among the records.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not read it.
        UsageError: There is no such topic.
        StateError: A batch cannot be read, and the topic is wanted whole.
    """
    async with started(_consumer(connection), connection) as consumer:
        # A consumer without a subscription knows no partitions of its own accord.
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001
        numbers = cluster.partitions_for_topic(topic)
        if not numbers:
            raise UsageError(f"there is no topic {topic} at {connection.bootstrap_servers}")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await _seek(consumer, since_ms, ends)
        unseen, missing = set(partitions), set(partitions)
        reader = RawReader(consumer)
        while missing:
            taken = await reader.next(missing, _CHUNK_RECORDS, _WAIT_S)
            for partition in sorted(unseen):
                mark = consumer.last_stable_offset(partition)
                if mark is not None:
                    ends[partition] = max(ends[partition], mark)
                    unseen.remove(partition)
            if taken is not None:
                for record in taken[1]:
                    if not _is_lost(record, whole):
                        yield _stored(taken[0], record)
            for partition in missing - unseen:
                if await consumer.position(partition) >= ends[partition]:
                    missing.remove(partition)
                    consumer.pause(partition)


async def _seek(
    consumer: AIOKafkaConsumer, since_ms: int | None, ends: Mapping[TopicPartition, int]
) -> None:
    """Goes to the first records of a time, to the ends where there are none."""
    if since_ms is None:
        await consumer.seek_to_beginning(*ends)
        return
    found = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
    for partition, end in ends.items():
        first = found.get(partition)
        consumer.seek(partition, end if first is None else first.offset)


async def read_records(
    connection: Connection, wanted: Mapping[TopicPartition, Collection[int]]
) -> AsyncIterator[StoredRecord]:
    """Yields the records at these offsets that are still there, in order within a partition.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not read one of the topics.
    """
    async with started(_consumer(connection), connection) as consumer:
        reader = RawReader(consumer)
        for partition, offsets in wanted.items():
            consumer.assign([partition])
            begin = (await consumer.beginning_offsets([partition]))[partition]
            missing = sorted(each for each in offsets if each >= begin)
            while missing:
                consumer.seek(partition, missing[0])
                taken = await reader.next([partition], _CHUNK_RECORDS, _PATIENCE_S)
                if taken is None:
                    break
                chosen = set(missing)
                for record in taken[1]:
                    if record.offset in chosen and not _is_lost(record):
                        yield _stored(partition, record)
                last = taken[1][-1]
                upto = last.last_offset if isinstance(last, Unreadable) else last.offset
                missing = [each for each in missing if each > upto]


def _is_lost(record: RawRecord, whole: bool = False) -> bool:
    """Whether it stands for a batch of which there is nothing to be had."""
    lost = isinstance(record, Unreadable) and record.whole_batch
    if lost and whole:
        assert isinstance(record, Unreadable)
        raise StateError(str(record.error))
    return lost


def _stored(partition: TopicPartition, record: RawRecord) -> StoredRecord:
    if isinstance(record, Unreadable):
        record = record.content
    return StoredRecord(
        partition.topic,
        partition.partition,
        record.offset,
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
    )
