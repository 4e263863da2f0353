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
from stream.batch.records import RawRecord
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

    async def check_changelog(self, changelog: str, source: str) -> None:
        pass

    async def restore(
        self, changelogs: Collection[TopicPartition], *, still_wanted: Callable[[], bool]
    ) -> Mapping[TopicPartition, dict[bytes, bytes]]:
        return {each: dict(self.stored) for each in changelogs}

    def source_is_ready(self) -> None:
        pass


async def test_nothing_is_committed_between_an_assignment_and_the_groups_position() -> None:
    client = Client()
    group = Membership(client)
    source = Source("clicks", group=cast(Group, group), progress=BatchProgress(), chunk_records=100)
    users: KeyedTable[Any] = KeyedTable(
        "users",
        source="clicks",
        changelog="users-changelog",
        dumps=lambda value: b"%d" % value,
        loads=int,
        check=source.check,
    )
    source.tables.append(users)
    source.assign([0])
    client.fetched(0, 1, 2)
    await source.next()
    users.write(0, {b"u": 2})
    waiting = asyncio.create_task(source.next())
    await asyncio.sleep(0)
    [cut] = source.cut()
    source.put_back(cut)  # The commit failed: this worker is no member any more.

    # Another worker goes on to offset 7, commits, and goes away.
    group.stored = {b"u": b"6"}
    client.position_known.clear()
    source.close()
    source.revoke()
    source.assign([0])
    await asyncio.sleep(0)
    assert source.cut() == []

    client.state.position = 7
    client.position_known.set()
    client.fetched(7)
    chunk = await waiting
    assert [each.offset for each in chunk.records] == [7]
    assert users.partition(0)[b"u"] == 6
    assert source.cut() == []
