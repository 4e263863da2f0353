"""The pull side of one batch topic: who owns which partition, what is in hand, what is done.

A source is opened and closed by rebalances and read by one agent. The epoch counts changes of
the assignment: whatever began in an older epoch is void when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from stream.batch.cut import Cut, InHand, PositionWentBack
from stream.batch.group import Group
from stream.batch.owned import Owned
from stream.batch.progress import BatchProgress, PartitionProgress
from stream.batch.reader import RawReader
from stream.batch.records import Chunk, OutputRecord
from stream.batch.table import KeyedTable, StaleChunk

logger = logging.getLogger(__name__)

_IDLE_WAIT_S = 1.0


class Source:
    """One batch topic, as its agent sees it.

    Args:
        topic: The topic's name.
        group: The worker's membership in the consumer group.
        progress: Where it tells how far it is.
        chunk_records: The most records of a chunk.
    """

    def __init__(
        self, topic: str, *, group: Group, progress: BatchProgress, chunk_records: int
    ) -> None:
        self.topic = topic
        self.owned = Owned(topic, progress)
        self._group = group
        self._chunk_records = chunk_records
        self._assigned: frozenset[int] = frozenset()
        self._attached: RawReader | None = None
        self._epoch = 0
        self._ready = False
        self._positioned = False
        self._opened = False
        self._stopped = False
        self._in_hand: InHand | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def tables(self) -> list[KeyedTable[Any]]:
        """The tables that follow the topic."""
        return self.owned.tables

    # The agent's side

    def begin(self) -> None:
        """Begins an iteration; a chunk that the last one left unfinished comes again."""
        self._stopped = False
        self.abandon()

    async def next(self) -> Chunk:
        """Acknowledges the chunk in hand and waits for the next one.

        Raises:
            StopAsyncIteration: The agent is to end.
            KafkaError: The broker's client cannot go on.
            PositionWentBack: The topic was truncated or made anew.
            ChangelogMismatch: A table's changelog has another number of partitions.
        """
        self._finish()
        with self._reader.polling():
            while True:
                if self._stopped:
                    raise StopAsyncIteration
                if not self._opened:
                    # A group that does not take this worker in says so to who asks.
                    await self._reader.wait(_IDLE_WAIT_S)
                elif not self._ready:
                    await self._prepare()
                elif (chunk := self._take()) is not None:
                    return chunk
                elif not await self._reader.mend():
                    await self._reader.wait(_IDLE_WAIT_S)

    def stop(self) -> None:
        """Makes `next` end the iteration."""
        self._stopped = True
        self._wake()

    @property
    def stopped(self) -> bool:
        """Whether the agent is to end."""
        return self._stopped

    @property
    def in_hand(self) -> str:
        """The chunk in hand, for messages."""
        if self._in_hand is None:
            return f"{self.topic}, no chunk in hand"
        chunk = self._in_hand.chunk
        first, last = chunk.records[0].offset, chunk.records[-1].offset
        return f"{chunk.topic}[{chunk.partition}], offsets {first} to {last}"

    def abandon(self) -> None:
        """Gives the chunk in hand back unacknowledged: it is the next one to come."""
        hand, self._in_hand = self._in_hand, None
        self._idle.set()
        if hand is not None and hand.epoch == self._epoch:
            part = self.owned.parts[hand.chunk.partition]
            part.position = part.acked
            self._reader.seek(self._tp(part.partition), part.acked)

    def check(self, partition: int) -> None:
        """Notes that state of a partition is about to be written.

        Raises:
            StaleChunk: No chunk of that partition is in hand, or it was taken away.
        """
        hand = self._in_hand
        if hand is None or hand.chunk.partition != partition or hand.epoch != self._epoch:
            raise StaleChunk(f"{self.topic}[{partition}] is not in hand; nothing is written")
        hand.written = True

    def hold(self, partition: int, records: Iterable[OutputRecord]) -> None:
        """Keeps outputs of the chunk in hand for the commit that it will be part of.

        Raises:
            StaleChunk: No chunk of that partition is in hand, or it was taken away.
        """
        self.check(partition)
        assert self._in_hand is not None
        self._in_hand.outputs.extend(records)

    def _finish(self) -> None:
        hand, self._in_hand = self._in_hand, None
        if hand is not None and hand.epoch == self._epoch:
            self.owned.finish(hand)
        self._idle.set()

    def _take(self) -> Chunk | None:
        taken = self._reader.take(self._tps(), self._chunk_records)
        if taken is None:
            for part in self.owned.parts.values():
                self._move(part)
                part.acked = part.position
            return None
        tp, records = taken
        part = self.owned.parts[tp.partition]
        if records[0].offset > part.position + 1:
            logger.warning(
                "%s[%d]: offsets %d to %d are not there any more (retention or compaction)",
                *(self.topic, tp.partition, part.position, records[0].offset - 1),
            )
        self._move(part)
        if part.first_record_ms is None:
            part.first_record_ms = records[0].timestamp_ms
        chunk = Chunk(self.topic, tp.partition, records)
        self._in_hand = InHand(chunk, self._epoch)
        self._idle.clear()
        return chunk

    def _move(self, part: PartitionProgress) -> None:
        """Takes over where the reader stands."""
        reader = self._reader
        tp = self._tp(part.partition)
        position = reader.position_now(tp)
        part.highwater = max(reader.highwater(tp) or 0, part.highwater or 0)
        if position is None:
            return
        if position < part.position:
            raise PositionWentBack(
                f"{self.topic}[{part.partition}] is at offset {position}, but everything before "
                f"{part.position} was processed: the topic was truncated or made anew, and stored "
                "states do not belong to it; reset the application's group and changelog"
            )
        part.position = position

    async def _prepare(self) -> None:
        """Restores the tables of new partitions and finds where to begin."""
        epoch = self._epoch
        reader = self._reader
        try:
            positions = await self._group.positions(
                [self._tp(each) for each in self._assigned],
                reader,
                still_wanted=lambda: epoch == self._epoch and self._opened,
            )
        except IllegalStateError:
            # Taken away meanwhile; the rebalance that did it opens the source again.
            self._opened = self._opened and epoch != self._epoch
            return
        if epoch != self._epoch:
            return
        owned = self.owned
        for number in [*owned.parts]:
            # What a failed commit put back may have happened after all, if its answer got lost.
            if owned.parts[number].acked != positions.get(number) or owned.uncommitted(number):
                owned.drop(number)
        self._positioned = True
        new = [each for each in positions if each not in owned.parts]
        for table in self.tables if new else ():
            await self._group.check_changelog(table.changelog, self.topic)
        if not await self._group.restore(
            self.tables, new, still_wanted=lambda: epoch == self._epoch
        ):
            return
        for number in new:
            owned.begin(number, positions[number])
        for part in owned.parts.values():
            # Where a chunk was cut short by the rebalance, the client's position is the right one.
            part.position = part.acked
        self._ready = True
        self._group.source_is_ready()

    # The side of rebalances and commits

    @property
    def ready(self) -> bool:
        """Whether the state of the whole assignment is here."""
        return self._ready

    def close(self) -> None:
        """Hands out no further chunk until the next `assign`."""
        self._opened = False
        self._ready = False
        self._wake()

    async def quiesce(self) -> None:
        """Waits until no chunk is in hand."""
        await self._idle.wait()

    def revoke(self) -> None:
        """Ends the epoch: the chunk in hand, if any, is void."""
        self._epoch += 1
        self._positioned = False
        self._assigned = frozenset()

    def assign(self, partitions: Iterable[int], standbys: Iterable[int] = ()) -> None:
        """Begins an epoch with these partitions; of all others it keeps standbys' states only."""
        self._epoch += 1
        self._positioned = False
        self._assigned = frozenset(partitions)
        for table in self.tables:
            table.aside.keep(self._assigned.union(standbys))
        for number in [*self.owned.parts]:
            if number not in self._assigned:
                self.owned.drop(number)
        self._ready = False
        self._opened = True
        self._wake()

    def cut(self) -> list[Cut]:
        """Takes what finished chunks have changed and where they end, in one step.

        There is nothing to take from an assignment until the group's positions are known: state
        kept over a rebalance may be older than what another owner has committed meanwhile.
        """
        if not self._positioned:
            return []
        hand = self._in_hand
        unfinished = hand.chunk.partition if hand is not None and hand.written else None
        return self.owned.cut(unfinished)

    def look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Takes over how far the partitions' ends are, from fetches or as the broker lists them.

        Fetches alone do not tell: while fetched records wait for the agent, there are none.
        """
        for part in self.owned.parts.values():
            tp = self._tp(part.partition)
            part.highwater = max(self._reader.highwater(tp) or 0, ends.get(tp, 0))

    def _wake(self) -> None:
        if self._attached is not None:
            self._attached.wake()

    @property
    def _reader(self) -> RawReader:
        if self._attached is None:
            self._attached = RawReader(self._group.consumer)
        return self._attached

    def _tp(self, number: int) -> TopicPartition:
        return TopicPartition(self.topic, number)

    def _tps(self) -> set[TopicPartition]:
        return {self._tp(each) for each in self.owned.parts}
