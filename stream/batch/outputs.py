"""Sending records in whole batches to a partition, acknowledged by all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError

from clickpath.errors import ConfigError
from stream.batch.records import OutputRecord

# A record's own fields take at most this much besides key, value and headers (KIP-98).
_RECORD_OVERHEAD_BYTES = 21
# Header of a batch, which travels even with a single record.
_BATCH_OVERHEAD_BYTES = 61

_NO_HEADERS: list[tuple[str, bytes | None]] = []


class TopicLimit(ConfigError):
    """A topic takes no record of the size that the worker may send."""


class OutputTooLarge(Exception):
    """A record alone is larger than what may be sent in one request."""

    def __init__(self, record: OutputRecord, size_bytes: int, limit_bytes: int) -> None:
        self.topic = record.topic
        self.key = record.key
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            # No key: it is a user's id, and this is logged.
            f"a record of {size_bytes} bytes for {record.topic} is over the limit of "
            f"{limit_bytes} bytes"
        )


def size_bytes(record: OutputRecord) -> int:
    """The most that a record takes in a request, before compression."""
    size = _BATCH_OVERHEAD_BYTES + _RECORD_OVERHEAD_BYTES + 10
    size += len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name.encode()) + len(value or b"") + 10
    return size


def check_size(record: OutputRecord, limit_bytes: int) -> None:
    """Makes sure that a record fits into a request.

    Raises:
        OutputTooLarge: It does not.
    """
    size = len(record.value or b"") + len(record.key or b"")
    # Headers are rare and small: the exact sum is worth it only near the limit.
    if record.headers or size > limit_bytes // 2:
        size = size_bytes(record)
        if size > limit_bytes:
            raise OutputTooLarge(record, size, limit_bytes)


class Outputs:
    """Writes records to the partition of the chunk that they come from.

    Args:
        producer: Gives the aiokafka producer (acks=all) once it has started.
        record_limit_bytes: The largest record that may be sent.
    """

    def __init__(self, producer: Callable[[], Any], *, record_limit_bytes: int) -> None:
        self._producer = producer
        self._limit_bytes = record_limit_bytes

    async def send(self, partition: int, records: Iterable[OutputRecord]) -> Mapping[str, int]:
        """Sends records and returns when the broker has acknowledged all of them.

        They go to the same partition number of their topics, modulo the topic's number of
        partitions; those of one topic keep their order. A batch over the size limit is split.

        Returns:
            By topic, the offset after the last record.

        Raises:
            OutputTooLarge: A record alone is over the limit. Nothing was sent then.
            KafkaError: The broker did not acknowledge one of them.
        """
        by_topic: dict[str, list[OutputRecord]] = {}
        for record in records:
            check_size(record, self._limit_bytes)
            by_topic.setdefault(record.topic, []).append(record)
        ends = await _all(
            self._send_topic(topic, partition, chosen) for topic, chosen in by_topic.items()
        )
        return dict(zip(by_topic, ends, strict=True))

    async def _send_topic(self, topic: str, partition: int, records: Sequence[OutputRecord]) -> int:
        producer = self._producer()
        count = len(await producer.partitions_for(topic))
        batches = _batches(producer, records)
        acknowledged = []
        for batch in batches:
            # Returns once the batch may be sent; the future, once it is acknowledged.
            acknowledged.append(
                await producer.send_batch(batch, topic, partition=partition % count)
            )
        try:
            placed = await _all(acknowledged)
        except MessageSizeTooLargeError as error:
            size = max(map(size_bytes, records))
            raise TopicLimit(
                f"the topic {topic} refuses a batch with a record of up to {size} bytes: its "
                "max.message.bytes is too small (kafka-configs.sh --alter --entity-type topics "
                f"--entity-name {topic} --add-config max.message.bytes=4194304)"
            ) from error
        return int(placed[-1].offset) + int(batches[-1].record_count())


def _batches(producer: Any, records: Sequence[OutputRecord]) -> list[Any]:
    """The records in as few batches as hold them, closed, in order."""
    batches = []
    batch = producer.create_batch()
    for _, key, value, headers, timestamp_ms in records:
        fields = {
            "timestamp": timestamp_ms,
            "key": key,
            "value": value,
            "headers": list(headers) if headers else _NO_HEADERS,
        }
        if batch.append(**fields) is None:
            batches.append(batch)
            batch = producer.create_batch()
            # The first record of a batch is always taken.
            batch.append(**fields)
    batch.close()
    batches.append(batch)
    return batches


async def _all(awaitables: Iterable[Any]) -> list[Any]:
    """Results of all of them, or the first error once none is under way any more."""
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
