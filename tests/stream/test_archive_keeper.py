"""Rows in memory: bounded, published with a commit, forgotten with their partition."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from aiokafka import TopicPartition

from clickpath.errors import FatalError
from clickpath.events import Click
from stream.archive.columns import Origin, Row, click_row
from stream.archive.keeper import Keeper, NotMember
from stream.archive.place import Place
from stream.archive.shelf import Shelf
from stream.batch.cut import Cut
from stream.batch.progress import BatchProgress, PartitionProgress
from stream.batch.records import Chunk, RawRecord
from stream.batch.table import StaleChunk


def chunk(first: int, end: int, timestamp_ms: int = 5_000) -> Chunk:
    return Chunk(
        "clicks", 0, [RawRecord(n, timestamp_ms, None, b"", ()) for n in range(first, end)]
    )


def rows(first: int, end: int) -> list[Row]:
    return [
        click_row(
            Click(f"e-{n}", "u-1", 1_000 + n, "view_item", "view_item"),
            Origin(5_000, "clicks", 0, n),
        )
        for n in range(first, end)
    ]


class Reader:
    """What the engine does around a keeper."""

    def __init__(self, root: Path, committed: int = 0, limit_bytes: int = 1 << 20) -> None:
        self.root = root
        self.progress = BatchProgress()
        self.assign(committed)
        self.keeper = Keeper({"clicks": "clicks"}, self._shelf, self.progress, limit_bytes)

    def _shelf(self, kind: str, topic: str, partition: int) -> Shelf:
        return Shelf(Place(str(self.root)), kind, topic, partition, buckets=2, clock=lambda: 0)

    def assign(self, committed: int) -> None:
        self.part = PartitionProgress(
            topic="clicks", partition=0, position=committed, acked=committed, committed=committed
        )
        self.progress.partitions["clicks", 0] = self.part

    async def read(self, first: int, end: int, **of_chunk: int) -> None:
        given = chunk(first, end, **of_chunk)
        await self.keeper.open(given)
        self.keeper.add(given, rows(first, end))

    def cut(self, offset: int) -> Cut:
        return Cut(TopicPartition("clicks", 0), offset, (), self.part)

    def archived(self) -> list[int]:
        return sorted(pl.read_parquet(self.root / "clicks")["offset"].to_list())


async def test_a_commit_publishes_the_finished_chunks_and_no_others(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    await reader.read(0, 10)
    await reader.read(10, 20)

    await reader.keeper.publish(reader.cut(10))
    assert reader.archived() == [*range(10)]

    await reader.keeper.publish(reader.cut(20))
    assert reader.archived() == [*range(20)]
    assert reader.keeper.written.clicks == 20


async def test_it_is_full_above_its_limit_and_empty_after_a_commit(tmp_path: Path) -> None:
    reader = Reader(tmp_path, limit_bytes=10_000)
    await reader.read(0, 10)
    assert not reader.keeper.full

    await reader.read(10, 500)
    assert reader.keeper.full

    await reader.keeper.publish(reader.cut(500))
    assert not reader.keeper.full


async def test_records_that_come_again_are_not_archived_again(tmp_path: Path) -> None:
    first = Reader(tmp_path)
    await first.read(0, 10)
    await first.keeper.publish(first.cut(10))

    # Its offsets were never committed.
    second = Reader(tmp_path, committed=0)
    await second.read(0, 15)
    await second.keeper.publish(second.cut(15))

    assert second.archived() == [*range(15)]


async def test_rows_of_a_partition_that_was_given_away_are_forgotten(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    await reader.read(0, 10)
    owner = Reader(tmp_path)
    await owner.read(0, 20)
    await owner.keeper.publish(owner.cut(20))

    reader.assign(20)
    await reader.read(20, 30)
    await reader.keeper.publish(reader.cut(30))

    assert reader.archived() == [*range(30)]


async def test_a_partition_that_is_gone_takes_no_chunk_and_no_commit(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    await reader.read(0, 10)
    cut = reader.cut(10)
    reader.progress.partitions.clear()

    with pytest.raises(StaleChunk):
        await reader.keeper.open(chunk(10, 20))
    with pytest.raises(NotMember):
        await reader.keeper.publish(cut)


async def test_a_topic_that_was_made_anew_is_refused(tmp_path: Path) -> None:
    first = Reader(tmp_path, committed=100)
    await first.read(100, 110)
    await first.keeper.publish(first.cut(110))

    with pytest.raises(FatalError, match="archived up to offset 110, but its group begins again"):
        await Reader(tmp_path, committed=0).read(0, 10)
    with pytest.raises(FatalError, match="at offset 100 has a record of 6000, the archive one of"):
        await Reader(tmp_path, committed=100).read(100, 105, timestamp_ms=6_000)
