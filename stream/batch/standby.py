"""Standbys: the states of partitions that other workers own, kept up with by their changelogs.

Whoever takes such a partition over has only the rest of the changelog to read. It is read all the
same, up to its end, before the partition is processed: a standby saves time and promises nothing.
Partitions that are ours come first; while they are restored, no standby is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError

from stream.batch.aside import Aside
from stream.batch.progress import BatchProgress, StandbyProgress
from stream.batch.reader import RawReader
from stream.batch.restore import seek_to_views

logger = logging.getLogger(__name__)

_CHUNK_RECORDS = 1_000
_WAIT_S = 0.5
_RETRY_S = 5.0


class Standbys:
    """Follows the changelogs of a worker's standby partitions.

    Args:
        consumer: Makes an unstarted consumer without a group, which does not go anywhere by itself
            when an offset does not exist any more.
        progress: Where it tells how far it is.
    """

    def __init__(self, consumer: Callable[[], AIOKafkaConsumer], progress: BatchProgress) -> None:
        self._new_consumer = consumer
        self._progress = progress
        self._wanted: Mapping[TopicPartition, Aside[Any]] = {}
        self._changed = False
        self._may_read = asyncio.Event()

    def assign(self, wanted: Mapping[TopicPartition, Aside[Any]]) -> None:
        """Follows these partitions of changelogs from now on, once `resume` is called."""
        self._wanted = dict(wanted)
        self._changed = True
        self._progress.standbys = {tuple(each): StandbyProgress() for each in wanted}

    def pause(self) -> None:
        """Reads nothing for the time being; no view is touched until `resume`."""
        self._may_read.clear()

    def resume(self) -> None:
        """Goes on."""
        self._may_read.set()

    async def run(self) -> None:
        """Follows whatever is assigned, for ever.

        Raises:
            ConfigError: A view cannot be opened.
        """
        while True:
            await self._may_read.wait()
            if not self._wanted:
                self._may_read.clear()
                continue
            try:
                await self._follow()
            except KafkaError as error:
                # Whoever owns the partitions goes on, and so do ours.
                logger.warning("standbys cannot be read, to be tried again: %r", error)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        consumer = self._new_consumer()
        try:
            await consumer.start()
            reader = RawReader(consumer)
            self._changed = True
            while await self._is_wanted():
                if self._changed:
                    await self._seek(consumer)
                    continue
                try:
                    await self._read(consumer, reader)
                except OffsetOutOfRangeError as error:
                    self._cut(error.args[0])
        finally:
            await consumer.stop()

    async def _is_wanted(self) -> bool:
        await self._may_read.wait()
        return bool(self._wanted)

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        self._changed = False
        consumer.assign(list(self._wanted))
        starts = await consumer.beginning_offsets(list(self._wanted))
        # A rebalance meanwhile may have given a view to somebody else.
        if not self._changed and self._may_read.is_set():
            views = {each: aside.view(each.partition) for each, aside in self._wanted.items()}
            seek_to_views(consumer, views, starts)
        else:
            self._changed = True

    async def _read(self, consumer: AIOKafkaConsumer, reader: RawReader) -> None:
        """Takes one chunk over, or waits a moment for one."""
        taken = reader.take(self._wanted.keys(), _CHUNK_RECORDS)
        if reader.unreadable is not None:
            # The view stays before it, and whoever restores it comes to the same place.
            raise CorruptRecordException(str(reader.unreadable.error))
        for each, aside in self._wanted.items():
            heard_ms = consumer.last_poll_timestamp(each)
            if heard_ms is not None and not aside.heard(each.partition, heard_ms):
                logger.warning("%s[%d] was silent for too long: its standby begins anew", *each)
                self._changed = True
        if self._changed:
            return
        begun = time.monotonic()
        if taken is not None:
            partition, records = taken
            view = self._wanted[partition].view(partition.partition)
            view.restored(records, records[-1].offset + 1)
        self._tell(reader)
        if taken is None:
            if not await reader.mend():
                await reader.wait(_WAIT_S)
        else:
            # Half of the time, when there is much to read, is left to the partitions that are ours.
            await asyncio.sleep(time.monotonic() - begun)

    def _tell(self, reader: RawReader) -> None:
        for each, progress in self._progress.standbys.items():
            partition = TopicPartition(*each)
            progress.position = reader.position_now(partition)
            progress.highwater = reader.highwater(partition)
            progress.keys = self._wanted[partition].view(partition.partition).size

    def _cut(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Begins partitions anew whose changelog does not have the offset where we stand."""
        for partition, offset in offsets.items():
            logger.warning(
                "%s[%d] does not have offset %d any more: its standby begins anew",
                *(*partition, offset),
            )
            self._wanted[partition].view(partition.partition).forget()
        self._changed = True
