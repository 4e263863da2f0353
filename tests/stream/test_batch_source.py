"""Rules of a source over a rebalance, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import TopicPartition

from stream.batch.group import Group
from stream.batch.progress import BatchProgress
from stream.batch.records import Chunk, RawRecord
from stream.batch.source import Source
from stream.batch.table import KeyedTable

TP = TopicPartition("clicks", 0)


class Fetched:
    """What a fetch brought, as aiokafka keeps it."""

    def __init__(self, client: Client, records: list[RawRecord]) -> None:
        self._client = client
        self._records = records
        self._partition_records = SimpleNamespace()

    def has_more(self) -> bool:
        return bool(self._records)

    def getall(self, limit: int) -> list[RawRecord]:
        taken, self._records = self._records[:limit], self._records[limit:]
        self._client.state.position = taken[-1].offset + 1
        return taken


class Client:
    """A consumer in a group whose position the test sets."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(position=0, has_valid_position=True, highwater=9)
        self.position_known = asyncio.Event()
        self.position_known.set()
        assignment = SimpleNamespace(state_value=lambda _: self.state)
        self._fetcher = SimpleNamespace(
            _records={},
            error_future=asyncio.Future(),
            _wait_consume_future=None,
            _notify=lambda _: None,
            _create_fetch_waiter=asyncio.Future,
        )
        self._coordinator = None
        self._subscription = SimpleNamespace(
            reassignment_in_progress=False,
            fetch_context=nullcontext,
            subscription=SimpleNamespace(assignment=assignment),
        )

    def fetched(self, *offsets: int) -> None:
        records = [RawRecord(each, 0, b"u", b"%d" % each, ()) for each in offsets]
        self._fetcher._records[TP] = Fetched(self, records)

    async def position(self, _: TopicPartition) -> int:
        await self.position_known.wait()
        return int(self.state.position)


class Membership:
    """A group with one changelog."""

    def __init__(self, client: Client) -> None:
        self.consumer = client
        self.stored: dict[bytes, bytes] = {}

    async def positions(
        self, partitions: Collection[TopicPartition], reader: Any, *, still_wanted: Any
    ) -> Mapping[int, int]:
        return {each.partition: await reader.position(each) for each in partitions}

    async def check_changelog(self, changelog: str, source: str) -> None:
        pass

    async def restore(
        self,
        tables: Collection[KeyedTable[Any]],
        numbers: Collection[int],
        *,
        still_wanted: Callable[[], bool],
    ) -> bool:
        for table in tables:
            for number in numbers:
                view = table.begin(number)
                view.restored(
                    [
                        RawRecord(n, 0, key, value, ())
                        for n, (key, value) in enumerate(self.stored.items())
                    ],
                    len(self.stored),
                )
                table.open(number, view)
        return True

    def source_is_ready(self) -> None:
        pass


class Reading:
    """A source with a table, whose agent has applied offsets 0 to 2 and waits for more."""

    def __init__(self) -> None:
        self.client = Client()
        self.group = Membership(self.client)
        self.progress = BatchProgress()
        self.source = Source(
            "clicks",
            group=cast(Group, self.group),
            progress=self.progress,
            chunk_records=100,
        )
        self.users: KeyedTable[Any] = KeyedTable(
            "users",
            source="clicks",
            changelog="users-changelog",
            dumps=lambda value: b"%d" % value,
            loads=int,
            check=self.source.check,
        )
        self.source.tables.append(self.users)

    async def begin(self) -> asyncio.Task[Chunk]:
        """Applies the first chunk; the task is the wait for the next one."""
        self.source.assign([0])
        self.client.fetched(0, 1, 2)
        await self.source.next()
        self.users.write(0, {b"u": 2})
        waiting = asyncio.create_task(self.source.next())
        await asyncio.sleep(0)
        return waiting

    def rebalance(self) -> None:
        """Another worker went on to offset 7, committed and went away again."""
        self.group.stored = {b"u": b"6"}
        self.client.state.position = 7
        self.client.fetched(7)
        self.source.close()
        self.source.revoke()
        self.source.assign([0])


async def test_nothing_is_committed_between_an_assignment_and_the_groups_position() -> None:
    reading = Reading()
    waiting = await reading.begin()
    [cut] = reading.source.cut()
    reading.source.owned.put_back(cut)  # The commit failed: this worker is no member any more.

    reading.client.position_known.clear()
    reading.rebalance()
    await asyncio.sleep(0)
    assert reading.source.cut() == []

    reading.client.position_known.set()
    assert [each.offset for each in (await waiting).records] == [7]
    assert reading.users.partition(0)[b"u"] == 6
    assert reading.source.cut() == []


async def test_a_commit_that_fails_after_its_partition_was_restored_leaves_no_trace() -> None:
    reading = Reading()
    waiting = await reading.begin()
    [cut] = reading.source.cut()

    reading.rebalance()
    await waiting
    reading.source.owned.put_back(cut)
    reading.source.owned.committed(cut)

    assert reading.users.partition(0)[b"u"] == 6
    assert reading.source.cut() == []


async def test_a_worker_that_fails_at_its_first_chunk_has_a_lag_in_seconds() -> None:
    reading = Reading()
    reading.source.assign([0])
    reading.client.fetched(0, 1, 2)
    await reading.source.next()
    [part] = reading.progress.partitions.values()
    assert part.last_record_ms is None
    assert part.lag_s(now_ms=2_500) == 2.5
