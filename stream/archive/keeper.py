"""What has been read and is not published yet: rows in memory, within a limit, by partition."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
from aiokafka.errors import KafkaError

from clickpath.errors import FatalError
from stream.archive.columns import CLICKS, DECISIONS, ERASURES, Row, batch_of
from stream.archive.shelf import Journal, Rows, Shelf
from stream.batch.commit import Committer
from stream.batch.cut import Cut
from stream.batch.group import Group
from stream.batch.outputs import Outputs
from stream.batch.progress import BatchProgress, PartitionProgress
from stream.batch.records import Chunk
from stream.batch.source import Source
from stream.batch.table import StaleChunk

logger = logging.getLogger(__name__)

SCHEMAS: Final = {"clicks": CLICKS, "decisions": DECISIONS, "erasures": ERASURES}

Key = tuple[str, int]


@dataclass(slots=True)
class _Part:
    """One partition while this reader owns it.

    Attributes:
        progress: The engine's record of it; another one means that it was given away and came back.
        shelf: Where its rows go.
        journal: How far it was archived when it was opened.
        upto: Rows below this offset are archived.
        batches: Rows to publish, with the offset after the chunk that they come from.
    """

    progress: PartitionProgress
    shelf: Shelf
    journal: Journal | None
    upto: int
    batches: list[tuple[int, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Written:
    """What went into the archive since the start."""

    clicks: int = 0
    decisions: int = 0
    erasures: int = 0
    files: int = 0


class Keeper:
    """Keeps rows until they are published, and publishes them.

    Args:
        kinds: By topic, which kind of rows it gives.
        shelf: Makes the shelf of a kind, topic and partition.
        progress: The engine's record of its partitions.
        limit_bytes: Rows in memory, as Arrow counts them, above which `full` tells to publish.
            Publishing takes about three times as much.
    """

    def __init__(
        self,
        kinds: dict[str, str],
        shelf: Callable[[str, str, int], Shelf],
        progress: BatchProgress,
        limit_bytes: int,
    ) -> None:
        self.written = Written()
        self._kinds = kinds
        self._shelf = shelf
        self._progress = progress
        self._limit_bytes = limit_bytes
        self._parts: dict[Key, _Part] = {}
        # One partition at a time: it bounds memory and open files.
        self._one_at_a_time = asyncio.Lock()

    @property
    def full(self) -> bool:
        """Whether the rows in memory are over the limit."""
        batches = (batch for part in self._parts.values() for _, batch in part.batches)
        held_bytes: int = sum(batch.nbytes for batch in batches)
        return held_bytes > self._limit_bytes

    async def open(self, chunk: Chunk) -> None:
        """Makes sure that the partition of a chunk, which is in hand, is ready for its rows.

        Raises:
            FatalError: What is archived does not belong to this topic, or cannot be read.
            StaleChunk: The partition was taken away meanwhile.
        """
        key = (chunk.topic, chunk.partition)
        progress = self._progress.partitions.get(key)
        part = self._parts.get(key)
        if progress is not None and (part is None or part.progress is not progress):
            self._forget_lost()
            part = self._parts[key] = await self._opened(key, progress)
        if part is None or part.progress is not self._progress.partitions.get(key):
            raise StaleChunk(f"{chunk.topic}[{chunk.partition}] was taken away")
        if part.journal is not None and chunk.records[0].offset < part.upto:
            _check_witness(part.journal, part.shelf.name, chunk)

    async def _opened(self, key: Key, progress: PartitionProgress) -> _Part:
        shelf = self._shelf(self._kinds[key[0]], *key)
        journal = await asyncio.to_thread(shelf.open)
        if journal is None:
            return _Part(progress, shelf, None, 0)
        if progress.committed < journal.begun:
            raise FatalError(
                f"{shelf.name} is archived up to offset {journal.upto}, but its group begins again "
                f"at {progress.committed}: if the topic was made anew, take another address; if "
                f"only the group's offsets were lost, set them to {journal.begun}"
            )
        return _Part(progress, shelf, journal, journal.upto)

    def add(self, chunk: Chunk, rows: Sequence[Row]) -> None:
        """Takes the rows of the chunk in hand; those that are archived already are passed over."""
        part = self._parts[chunk.topic, chunk.partition]
        new = [row for row in rows if row[-1] >= part.upto]
        if new:
            schema = SCHEMAS[self._kinds[chunk.topic]]
            part.batches.append((chunk.records[-1].offset + 1, batch_of(new, schema)))

    async def publish(self, cut: Cut) -> None:
        """Publishes all rows of finished chunks that a commit covers.

        Raises:
            NotMember: The partition was taken away meanwhile.
            FatalError: The archive failed.
        """
        tp, upto = cut.partition, cut.offset
        async with self._one_at_a_time:
            if self._progress.partitions.get((tp.topic, tp.partition)) is not cut.part:
                raise NotMember(f"{tp.topic}[{tp.partition}] was taken away")
            part = self._parts.get((tp.topic, tp.partition))
            if part is None or part.progress is not cut.part:
                return
            ready = [batch for end, batch in part.batches if end <= upto]
            if not ready:
                return
            rows = Rows(pa.Table.from_batches(ready), part.progress.committed, upto)
            files = await asyncio.to_thread(part.shelf.publish, rows)
            part.batches = [each for each in part.batches if each[0] > upto]
            part.upto = upto
        kind = self._kinds[tp.topic]
        setattr(self.written, kind, getattr(self.written, kind) + rows.table.num_rows)
        self.written.files += files
        logger.info("%d %s of %s in %d files", rows.table.num_rows, kind, part.shelf.name, files)

    def _forget_lost(self) -> None:
        """Forgets partitions that were given away: their rows come again, to whoever owns them."""
        current = self._progress.partitions
        self._parts = {
            key: part for key, part in self._parts.items() if current.get(key) is part.progress
        }


def _check_witness(journal: Journal, name: str, chunk: Chunk) -> None:
    """Compares a record that was archived with the one that now has its offset."""
    offset, timestamp_ms = journal.witness
    for record in chunk.records:
        if record.offset == offset and record.timestamp_ms != timestamp_ms:
            raise FatalError(
                f"{name} at offset {offset} has a record of {record.timestamp_ms}, the archive one "
                f"of {timestamp_ms}: the topic was made anew; take another address for the archive"
            )


class NotMember(KafkaError):
    """This reader is not in its group any more: somebody else goes on where it was."""

    retriable = True


class PublishingCommitter(Committer):
    """Publishes what finished chunks gave before their states and offsets are committed."""

    def __init__(self, group: Group, outputs: Outputs, keeper: Keeper) -> None:
        super().__init__(group, outputs)
        self._keeper = keeper

    async def _write(self, source: Source, cut: Cut) -> None:
        await self._keeper.publish(cut)
        # That may have taken long, and states must not go over those of a successor.
        if not await self._group.is_member():
            raise NotMember("not in the group any more, nothing is committed")
        await super()._write(source, cut)
