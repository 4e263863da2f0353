"""The partitions of one batch topic that this worker reads: how far they are, what is uncommitted.

A `Cut` may outlive the partition that it was taken from: what comes of it is noted only where the
partition was not restored meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition

from stream.batch.cut import Cut, InHand
from stream.batch.progress import BatchProgress, PartitionProgress
from stream.batch.records import OutputRecord
from stream.batch.table import KeyedTable


class Owned:
    """What a source has of its partitions.

    Args:
        topic: The topic's name.
        progress: Where it tells how far it is.

    Attributes:
        tables: The tables that follow the topic.
        parts: How far each partition is.
    """

    def __init__(self, topic: str, progress: BatchProgress) -> None:
        self.tables: list[KeyedTable[Any]] = []
        self.parts: dict[int, PartitionProgress] = {}
        self._topic = topic
        self._progress = progress
        self._held: dict[int, list[OutputRecord]] = {}

    @property
    def held_bytes(self) -> int:
        """Size of the values that are held for the next commit."""
        return sum(len(record.value or b"") for held in self._held.values() for record in held)

    def begin(self, number: int, offset: int) -> None:
        """Begins a partition, whose tables are restored, at an offset."""
        self.parts[number] = PartitionProgress(
            topic=self._topic, partition=number, position=offset, acked=offset, committed=offset
        )
        self._progress.partitions[self._topic, number] = self.parts[number]

    def drop(self, number: int) -> None:
        """Gives a partition up, and what is uncommitted of it."""
        for table in self.tables:
            table.drop(number)
        self._held.pop(number, None)
        del self.parts[number]
        self._progress.partitions.pop((self._topic, number), None)

    def uncommitted(self, number: int) -> bool:
        """Whether there is something that no cut has taken."""
        return bool(self._held.get(number)) or any(table.unsaved(number) for table in self.tables)

    def finish(self, hand: InHand) -> None:
        """Acknowledges a chunk."""
        records = hand.chunk.records
        part = self.parts[hand.chunk.partition]
        part.acked = part.position
        part.last_record_ms = records[-1].timestamp_ms
        part.records += len(records)
        self._progress.records += len(records)
        self._progress.chunks += 1
        if hand.outputs:
            self._held.setdefault(part.partition, []).extend(hand.outputs)

    def cut(self, unfinished: int | None) -> list[Cut]:
        """Takes what finished chunks have changed and where they end, in one step.

        Args:
            unfinished: A partition whose state is ahead of its offset.
        """
        cuts = []
        for number, part in self.parts.items():
            if number == unfinished:
                continue
            changes = ((table, table.cut(number)) for table in self.tables)
            changed = tuple(each for each in changes if each[1])
            held = self._held.pop(number, ())
            cut = Cut(TopicPartition(self._topic, number), part.acked, changed, part, held)
            if cut.changes or part.acked != part.committed:
                cuts.append(cut)
        return cuts

    def put_back(self, cut: Cut) -> None:
        """Takes back a cut that was not committed."""
        if self._holds(cut):
            number = cut.partition.partition
            for table, changes in cut.changes:
                table.put_back(number, changes)
            if cut.outputs:
                self._held[number] = [*cut.outputs, *self._held.get(number, ())]

    def saved(
        self,
        cut: Cut,
        table: KeyedTable[Any],
        records: Sequence[OutputRecord],
        end: int,
        *,
        alone: bool,
    ) -> None:
        """Notes that a changelog has acknowledged records of a cut, as `View.saved`."""
        if self._holds(cut):
            table.saved(cut.partition.partition, records, end, alone=alone)

    def committed(self, cut: Cut) -> None:
        """Notes that a cut was committed."""
        cut.part.committed = cut.offset
        if self._holds(cut):
            for table, _ in cut.changes:
                table.committed(cut.partition.partition)

    def _holds(self, cut: Cut) -> bool:
        return self.parts.get(cut.partition.partition) is cut.part
