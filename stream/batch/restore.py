"""Reading changelogs back, up to their end, before a partition is processed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from clickpath.errors import StateError
from stream.batch.reader import RawReader
from stream.batch.view import View

logger = logging.getLogger(__name__)

_CHUNK_RECORDS = 2_000
# An answer without records, which says where the end is, does not end a wait.
_WAIT_S = 0.05


async def read_changelogs(
    consumer: AIOKafkaConsumer,
    wanted: Mapping[TopicPartition, View[Any]],
    *,
    still_wanted: Callable[[], bool],
) -> int | None:
    """Reads partitions of compacted topics from where their views stand to their end.

    The end of a partition is the larger one of what the broker lists as its end and of the high
    water mark in the answers to our fetches: some brokers list the base of the last batch, and
    after a change of leader the mark may lag behind for a moment.

    Args:
        consumer: A started consumer without a group.
        wanted: The partitions, and who takes their records over.
        still_wanted: Asked now and then; False ends the reading.

    Returns:
        The number of records; None if they were not wanted any more.

    Raises:
        StateError: Some of them cannot be read.
    """
    begun = time.monotonic()
    consumer.assign(list(wanted))
    seek_to_views(consumer, wanted, await consumer.beginning_offsets(list(wanted)))
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(wanted))
    reader = RawReader(consumer)
    records = 0
    missing = set(wanted)
    while missing:
        if not still_wanted():
            return None
        taken = reader.take(missing, _CHUNK_RECORDS)
        if taken is None:
            if await reader.mend():
                continue
            missing = {each for each in missing if not _at_end(reader, each, ends[each])}
            if missing:
                await reader.wait(_WAIT_S)
            continue
        partition, chunk = taken
        if reader.unreadable is not None:
            raise StateError(
                f"stored states cannot be read: {reader.unreadable.error}; a copy on another "
                "broker may be sound: make it the leader of the partition"
            )
        wanted[partition].restored(chunk, chunk[-1].offset + 1)
        records += len(chunk)
        # The heartbeat and everything else in this loop go on between chunks.
        await asyncio.sleep(0)
    for partition, view in wanted.items():
        # Behind the last record there may be the end of a transaction.
        view.restored((), reader.position_now(partition) or view.begin)
    logger.info(
        "restored %d partitions: %d keys out of %d records in %.2f s",
        len(wanted),
        sum(view.size for view in wanted.values()),
        records,
        time.monotonic() - begun,
    )
    return records


def seek_to_views(
    consumer: AIOKafkaConsumer,
    views: Mapping[TopicPartition, View[Any]],
    starts: Mapping[TopicPartition, int],
) -> None:
    """Goes to where views stand, in partitions that are assigned to the consumer.

    A view that ends before its changelog begins is begun anew: what was cut off may have been the
    deletion of something that is in it.

    Args:
        consumer: A started consumer.
        views: The views.
        starts: The first offsets of their changelogs.
    """
    for partition, view in views.items():
        if 0 < view.begin < starts[partition]:
            logger.warning(
                "%s[%d] begins at offset %d, what is here ends at %d: it is read anew",
                *(*partition, starts[partition], view.begin),
            )
            view.forget()
        consumer.seek(partition, max(view.begin, starts[partition]))


def _at_end(reader: RawReader, partition: TopicPartition, end: int) -> bool:
    highwater = reader.highwater(partition)
    position = reader.position_now(partition)
    return highwater is not None and position is not None and position >= max(highwater, end)
