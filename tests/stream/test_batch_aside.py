"""Rules of what is kept of partitions that this worker does not own, without a broker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stream.batch.aside import Aside
from stream.batch.disk import DiskStore
from stream.batch.memory import MemoryStore
from stream.batch.records import OutputRecord, RawRecord
from stream.batch.table import KeyedTable
from stream.batch.view import Store, View

HOUR_MS = 3600 * 1000


class Clock:
    now_ms = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else DiskStore(tmp_path)


@pytest.fixture
def users(store: Store) -> KeyedTable[int]:
    return KeyedTable(
        "users",
        source="clicks",
        changelog="users-changelog",
        dumps=lambda value: b"%d" % value,
        loads=int,
        check=lambda _: None,
        store=store,
    )


def records(first: int, values: Mapping[bytes, int | None]) -> list[RawRecord]:
    return [
        RawRecord(first + n, 0, key, None if value is None else b"%d" % value, ())
        for n, (key, value) in enumerate(values.items())
    ]


def ours(users: KeyedTable[int], **values: int) -> View[int]:
    """Partition 0, restored and then written to, all of it on the changelog."""
    users.aside.keep({0})
    view = users.begin(0)
    view.restored(records(0, {b"old": 1}), 1)
    users.open(0, view)
    changed = {key.encode(): value for key, value in values.items()}
    users.write(0, changed)
    # Read, so that the values are here as objects too.
    assert [view[key] for key in changed] == list(changed.values())
    sent = [OutputRecord("users-changelog", k, users.dump(v)) for k, v in users.cut(0).items()]
    users.saved(0, sent, 1 + len(sent), alone=False)
    users.committed(0)
    return view


def test_a_partition_that_goes_is_kept_and_goes_on_from_where_it_was(
    users: KeyedTable[int],
) -> None:
    ours(users, a=1, b=2, c=3)
    users.drop(0)
    standby = users.aside.view(0)
    assert standby.begin == 4
    # Meanwhile the new owner changed one user, and erased another.
    standby.restored(records(4, {b"a": 10, b"b": None}), 6)
    again = users.begin(0)
    assert (again.begin, dict(again)) == (6, {b"old": 1, b"a": 10, b"c": 3})


def test_a_partition_that_nobody_wants_is_not_kept(users: KeyedTable[int]) -> None:
    ours(users, a=1)
    users.aside.keep({1, 2})
    users.drop(0)
    users.aside.keep({0})
    # What the disk has may be read again; from memory it is gone.
    assert users.begin(0).begin in {0, 2}
    assert users.aside.take(1).begin == 0


@pytest.mark.parametrize("committed", [False, True])
def test_values_that_the_changelog_may_not_have_are_not_kept(
    users: KeyedTable[int], committed: bool
) -> None:
    ours(users, a=1)
    users.write(0, {b"a": 2, b"only here": 3})
    if committed:
        # On its way when the partition went.
        users.cut(0)
    users.drop(0)
    view = users.begin(0)
    assert view.get(b"only here") is None
    # It is behind nothing that it lacks: the rest is read from there.
    assert dict(view) == ({} if view.begin == 0 else {b"old": 1, b"a": 1})


def test_a_changelog_that_was_made_anew_is_begun_from_nothing(users: KeyedTable[int]) -> None:
    ours(users, a=1)
    users.drop(0)
    standby = users.aside.view(0)
    standby.restored(records(0, {b"c": 3}), 1)
    assert (standby.begin, dict(standby)) == (1, {b"c": 3})


def test_where_somebody_else_may_have_written_the_rest_begins_before(
    users: KeyedTable[int],
) -> None:
    view = ours(users, a=1)
    users.write(0, {b"b": 2})
    users.cut(0)
    users.saved(0, [OutputRecord("users-changelog", b"b", b"2")], 5, alone=False)
    assert view.begin == 2


def test_a_changelog_that_was_silent_for_half_a_day_is_read_anew(store: Store) -> None:
    clock = Clock()
    aside: Aside[int] = Aside(lambda number: store.open("changelog", number, int), now_ms=clock)
    aside.keep({0, 1})
    for number in (0, 1):
        aside.view(number).restored(records(0, {b"a": 1}), 1)
    clock.now_ms += 12 * HOUR_MS
    assert aside.heard(0, clock.now_ms)
    clock.now_ms += 1
    assert aside.heard(0, clock.now_ms)
    assert dict(aside.take(0)) == {b"a": 1}
    # Of the other one nothing was heard all the time: a deletion may have come and gone.
    assert not aside.heard(1, clock.now_ms)
    assert (aside.view(1).begin, dict(aside.view(1))) == (0, {})


def test_what_was_kept_for_too_long_is_not_taken(store: Store) -> None:
    clock = Clock()
    aside: Aside[int] = Aside(lambda number: store.open("changelog", number, int), now_ms=clock)
    aside.keep({0})
    aside.view(0).restored(records(0, {b"a": 1}), 1)
    clock.now_ms += 12 * HOUR_MS + 1
    view = aside.take(0)
    assert (view.begin, dict(view)) == (0, {})
