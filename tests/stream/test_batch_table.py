"""Rules of a keyed table, without a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.batch.disk import DiskStore
from stream.batch.memory import MemoryStore
from stream.batch.records import RawRecord
from stream.batch.table import KeyedTable, NotAssigned, StaleChunk
from stream.batch.view import Store


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else DiskStore(tmp_path)


def opened(users: KeyedTable[int], partition: int, stored: dict[bytes, bytes]) -> None:
    """Begins a partition whose changelog holds this."""
    view = users.begin(partition)
    view.restored(
        [RawRecord(n, 0, *each, ()) for n, each in enumerate(stored.items())], len(stored)
    )
    users.open(partition, view)


def table(store: Store, loaded: list[bytes] | None = None) -> KeyedTable[int]:
    def loads(data: bytes) -> int:
        if loaded is not None:
            loaded.append(data)
        return int(data)

    return KeyedTable(
        "users",
        source="clicks",
        changelog="users-changelog",
        dumps=lambda value: b"%d" % value,
        loads=loads,
        check=lambda _: None,
        store=store,
    )


def test_a_restored_value_is_made_on_its_first_read_and_only_then(store: Store) -> None:
    loaded: list[bytes] = []
    users = table(store, loaded)
    opened(users, 3, {b"a": b"1", b"b": b"2"})
    view = users.partition(3)
    assert (len(view), b"a" in view, loaded) == (2, True, [])
    assert (view[b"a"], view.get(b"a"), loaded) == (1, 1, [b"1"])
    assert sorted(view) == [b"a", b"b"]
    assert loaded == [b"1"]


def test_a_value_that_cannot_be_read_stays_for_the_next_attempt(store: Store) -> None:
    users = table(store)
    opened(users, 0, {b"a": b"no number"})
    for _ in range(2):
        with pytest.raises(ValueError, match="no number"):
            users.partition(0).get(b"a")


def test_a_write_is_seen_by_views_taken_before_it(store: Store) -> None:
    users = table(store)
    opened(users, 0, {b"a": b"1"})
    view = users.partition(0)
    users.write(0, {b"a": 5, b"b": 0})
    assert dict(view) == {b"a": 5, b"b": 0}
    users.write(0, {b"a": None})
    assert dict(view) == {b"b": 0}
    assert view.get(b"a") is None
    with pytest.raises(KeyError):
        view[b"a"]


def test_a_cut_holds_the_latest_value_of_each_key_once(store: Store) -> None:
    users = table(store)
    opened(users, 0, {})
    users.write(0, {b"a": 1, b"b": 1})
    users.write(0, {b"a": 2, b"b": None})
    assert users.cut(0) == {b"a": 2, b"b": None}
    assert users.cut(0) == {}


def test_newer_changes_win_over_those_put_back(store: Store) -> None:
    users = table(store)
    opened(users, 0, {})
    users.write(0, {b"a": 1, b"b": 1})
    cut = users.cut(0)
    users.write(0, {b"a": 2})
    users.put_back(0, cut)
    assert users.cut(0) == {b"a": 2, b"b": 1}


def test_nothing_is_put_back_to_a_partition_that_is_gone(store: Store) -> None:
    users = table(store)
    opened(users, 0, {})
    users.write(0, {b"a": 1})
    cut = users.cut(0)
    users.drop(0)
    users.put_back(0, cut)
    opened(users, 0, {})
    assert users.cut(0) == {}


def test_a_partition_that_is_not_here_has_neither_values_nor_writes(store: Store) -> None:
    users = table(store)
    with pytest.raises(NotAssigned, match="partition 7"):
        users.partition(7)
    with pytest.raises(NotAssigned, match="partition 7"):
        users.write(7, {b"a": 1})


def test_a_refused_write_changes_nothing(store: Store) -> None:
    def refuse(partition: int) -> None:
        raise StaleChunk(f"partition {partition}")

    users = KeyedTable(
        "u", source="c", changelog="l", dumps=bytes, loads=bytes, check=refuse, store=store
    )
    opened(users, 0, {})
    with pytest.raises(StaleChunk):
        users.write(0, {b"a": b"1"})
    assert dict(users.partition(0)) == {}
    assert users.cut(0) == {}
