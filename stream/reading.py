"""Reads a topic from its beginning to its present end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from clickpath.errors import UsageError

#: A broker may answer an end that is short of the real one (seen: the base of the last batch), so
#: reading goes on until this long nothing came.
_IDLE_MS: Final = 700


class StoredRecord(NamedTuple):
    """A record as it lies on a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@asynccontextmanager
async def _consumer(bootstrap_servers: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=8 << 20,
    )
    try:
        await consumer.start()
    except KafkaConnectionError as error:
        raise UsageError(f"no broker answers at {bootstrap_servers}: {error}") from error
    else:
        yield consumer
    finally:
        await consumer.stop()


async def read_topic(bootstrap_servers: str, topic: str) -> AsyncIterator[StoredRecord]:
    """Yields every record of a topic, in order of offset within a partition.

    Raises:
        UsageError: No broker answers, or it has no such topic.
    """
    async with _consumer(bootstrap_servers) as consumer:
        if topic not in await consumer.topics():
            raise UsageError(f"there is no topic {topic} at {bootstrap_servers}")
        numbers = consumer.partitions_for_topic(topic) or set()
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while True:
            fetched = await consumer.getmany(timeout_ms=_IDLE_MS, max_records=5000)
            if not fetched:
                positions = [await consumer.position(each) for each in partitions]
                if all(at >= ends[each] for at, each in zip(positions, partitions, strict=True)):
                    return
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
