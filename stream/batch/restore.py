"""Reading changelogs back into memory, up to their end, before a partition is processed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.batch.reader import RawReader

logger = logging.getLogger(__name__)

#: The newest value's bytes by key.
Stored = dict[bytes, bytes]

_CHUNK_RECORDS = 2_000
_WAIT_S = 0.5


async def read_changelogs(
    consumer: AIOKafkaConsumer,
    wanted: Collection[TopicPartition],
    *,
    still_wanted: Callable[[], bool],
) -> Mapping[TopicPartition, Stored] | None:
    """The newest value of each key in whole partitions of compacted topics.

    The end of a partition is the larger one of what the broker lists as its end and of the high
    water mark in the answers to our fetches: some brokers list the base of the last batch, and
    after a change of leader the mark may lag behind for a moment.

    Args:
        consumer: A started consumer without a group.
        wanted: The partitions.
        still_wanted: Asked now and then; False ends the reading.

    Returns:
        Bytes by key for each partition; None if it was not wanted any more.
    """
    begun = time.monotonic()
    consumer.assign(list(wanted))
    await consumer.seek_to_beginning(*wanted)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(wanted))
    reader = RawReader(consumer)
    found: dict[TopicPartition, Stored] = {partition: {} for partition in wanted}
    records = 0
    missing = set(wanted)
    while missing:
        if not still_wanted():
            return None
        taken = reader.take(missing, _CHUNK_RECORDS)
        if taken is None:
            missing = {each for each in missing if not _at_end(reader, each, ends[each])}
            if missing:
                await reader.wait(_WAIT_S)
            continue
        partition, chunk = taken
        stored = found[partition]
        for record in chunk:
            if record.key is None:
                continue
            if record.value is None:
                stored.pop(record.key, None)
            else:
                stored[record.key] = record.value
        records += len(chunk)
        # The heartbeat and everything else in this loop go on between chunks.
        await asyncio.sleep(0)
    logger.info(
        "restored %d partitions: %d keys out of %d records in %.2f s",
        len(found),
        sum(map(len, found.values())),
        records,
        time.monotonic() - begun,
    )
    return found


def _at_end(reader: RawReader, partition: TopicPartition, end: int) -> bool:
    highwater = reader.highwater(partition)
    position = reader.position_now(partition)
    return highwater is not None and position is not None and position >= max(highwater, end)
