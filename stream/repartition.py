"""Copies a topic so that the records of a user come to one partition, in their order.

The records of a source partition are sent in their order. Offsets are committed when everything
before them is acknowledged, in a group of this pair of topics: a copy that was interrupted goes on
where it was, and repeats at most what it had in hand. Repeated events are duplicates to a worker.

A request for an erasure goes to every partition, behind all that lay before it in its own one. As
one lay in each partition of the source, whatever is to be erased lies before one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from clickpath.erasure import request_of
from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_TS_MS
from clickpath.wire import parse
from stream.batch.reader import RawReader
from stream.batch.records import RawRecord, Unreadable
from stream.clients import Consumer, Producer
from stream.connection import Connection
from stream.refusals import started

By = Literal["user", "key"]

_BATCH_RECORDS: Final = 5_000
_WAIT_S: Final = 0.5
_MAX_REQUEST_BYTES: Final = 8 << 20


@dataclass(slots=True)
class Copied:
    """What was done.

    Attributes:
        records: Records read, written and acknowledged.
        rekeyed: Those of them whose key is another one now.
        moved: Those of them that lie in a partition of another number now.
        no_events: Those of them that tell no user; they keep their key.
        requests: Requests for an erasure, which go to every partition; not among the records.
        unreadable: Offsets in batches that cannot be read, and are not copied.
    """

    records: int = 0
    rekeyed: int = 0
    moved: int = 0
    no_events: int = 0
    requests: int = 0
    unreadable: int = 0


async def repartition(
    connection: Connection,
    source: str,
    target: str,
    *,
    group: str,
    by: By,
    stop: asyncio.Event | None = None,
) -> Copied:
    """Copies what the group has not copied yet.

    Args:
        connection: The brokers.
        source: The topic to read.
        target: The topic to write, which must exist.
        group: The consumer group that remembers how far it is.
        by: "user" takes the user's id in the event for a key; "key" leaves the key as it is.
        stop: Ends a copy that follows the source; None ends at the present end of the source.

    Raises:
        UsageError: No broker answers, there is no such topic, or it is one and the same.
        KafkaError: A record was not acknowledged; it comes again the next time.
    """
    if source == target:
        raise UsageError(f"{source} cannot be copied to itself; make another topic for the copy")
    consumer = Consumer(
        **connection.consumer_arguments(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=_MAX_REQUEST_BYTES,
    )
    producer = Producer(
        **connection.client_arguments(),
        acks="all",
        linger_ms=20,
        max_batch_size=256 << 10,
        max_request_size=_MAX_REQUEST_BYTES,
    )
    async with started(consumer, connection), started(producer, connection):
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - as read_topic does
        for topic in (source, target):
            if not cluster.partitions_for_topic(topic):
                raise UsageError(f"there is no topic {topic} at {connection.bootstrap_servers}")
        partitions = [TopicPartition(source, n) for n in cluster.partitions_for_topic(source)]
        consumer.assign(partitions)
        reader = RawReader(consumer)
        copy = _Copy(producer, target, sorted(cluster.partitions_for_topic(target)), by)
        ends = await consumer.end_offsets(partitions)
        while stop is None or not stop.is_set():
            taken = await reader.next(partitions, _BATCH_RECORDS, _WAIT_S)
            if taken is not None:
                partition, records = taken
                await copy.write(partition.partition, records)
                await consumer.commit({partition: await reader.position(partition)})
            # The end that some brokers list is that before the last batch: read until idle.
            elif stop is None and await _reached(consumer, ends):
                break
    return copy.done


async def _reached(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True


class _Copy:
    def __init__(
        self, producer: AIOKafkaProducer, target: str, partitions: Sequence[int], by: By
    ) -> None:
        self.done = Copied()
        self._producer = producer
        self._target = target
        self._partitions = partitions
        self._by = by

    async def write(self, partition: int, records: Sequence[RawRecord]) -> None:
        """Sends records of a partition, in order, and waits for their acknowledgements."""
        waiting: list[asyncio.Future[Any]] = []
        requests: list[asyncio.Future[Any]] = []
        for each in records:
            record = each.content if isinstance(each, Unreadable) else each
            if isinstance(each, Unreadable) and each.whole_batch:
                # It has been logged with its place.
                self.done.unreadable += each.last_offset - each.offset + 1
            elif record.headers and request_of(record.value, record.headers) is not None:
                # What it erases may come to lie in any partition.
                requests += [await self._send(record, None, n) for n in self._partitions]
            else:
                waiting.append(await self._send(record, self._key(record), None))
        self.done.moved += sum(
            each.partition != partition for each in await asyncio.gather(*waiting)
        )
        self.done.records += len(waiting)
        self.done.requests += len(await asyncio.gather(*requests)) // len(self._partitions)

    async def _send(
        self, record: RawRecord, key: bytes | None, partition: int | None
    ) -> asyncio.Future[Any]:
        sent: asyncio.Future[Any] = await self._producer.send(
            self._target,
            record.value,
            key=key,
            partition=partition,
            timestamp_ms=record.timestamp_ms if record.timestamp_ms > 0 else None,
            headers=list(record.headers),
        )
        return sent

    def _key(self, record: RawRecord) -> bytes | None:
        key: bytes | None = record.key
        if self._by == "key":
            return key
        try:
            user = parse(record.value, record.headers, MAX_TS_MS).user_id.encode("utf-8")
        except BadEvent:
            self.done.no_events += 1
            return key
        self.done.rekeyed += user != key
        return user
