"""Rules of state on disk: what a restart finds, and what it does not trust."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from clickpath.errors import ConfigError
from stream.batch.disk import _KEPT_VALUES, DiskStore, DiskView
from stream.batch.records import OutputRecord, RawRecord
from tests.stream.counting import EMPTY, Job, counting_app, produce, running, until

HOUR_MS = 3600 * 1000


class Clock:
    now_ms = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> DiskStore:
    return DiskStore(tmp_path, now_ms=clock)


def opened(store: DiskStore) -> DiskView[int]:
    return store.open("changelog", 0, int)


def from_changelog(first: int, **values: int | None) -> list[RawRecord]:
    return [
        RawRecord(first + n, 0, key.encode(), None if value is None else b"%d" % value, ())
        for n, (key, value) in enumerate(values.items())
    ]


def to_changelog(**values: int | None) -> list[OutputRecord]:
    return [OutputRecord("changelog", each.key, each.value) for each in from_changelog(0, **values)]


def test_a_restart_finds_what_the_changelog_had_and_the_offset_it_stands_for(
    store: DiskStore,
) -> None:
    view = opened(store)
    view.restored(from_changelog(0, a=1, b=2, c=3), 3)
    view.write({b"a": 10, b"c": None, b"d": 40})
    view.saved(to_changelog(a=10, c=None), 5, unsaved={b"d"}, alone=False)
    assert dict(view) == {b"a": 10, b"b": 2, b"d": 40}
    view.close()

    again = opened(store)
    assert again.begin == 5
    # What was not acknowledged is gone: its records come again.
    assert dict(again) == {b"a": 10, b"b": 2}


def test_where_somebody_else_may_have_written_the_offset_stays_behind(store: DiskStore) -> None:
    view = opened(store)
    view.restored(from_changelog(0, a=1), 1)
    view.saved(to_changelog(b=2), 4, unsaved=(), alone=False)
    assert view.begin == 1
    # A transaction leaves gaps, and nobody else can write beside one.
    view.saved(to_changelog(b=3), 6, unsaved=(), alone=True)
    assert view.begin == 6


def test_a_changelog_that_was_made_anew_is_begun_from_nothing(store: DiskStore) -> None:
    view = opened(store)
    view.restored(from_changelog(0, a=1, b=2), 2)
    view.restored(from_changelog(0, c=3), 1)
    assert dict(view) == {b"c": 3}

    view.restored((), 0)
    assert dict(view) == {}


def test_a_disk_that_is_older_than_tombstones_is_begun_from_nothing(
    store: DiskStore, clock: Clock
) -> None:
    view = opened(store)
    view.restored(from_changelog(0, a=1), 1)
    view.close()
    clock.now_ms += 12 * HOUR_MS
    view = opened(store)
    assert view.begin == 1
    view.close()
    clock.now_ms += 1
    view = opened(store)
    assert (view.begin, dict(view)) == (0, {})


def test_values_in_memory_are_bounded(store: DiskStore) -> None:
    view = opened(store)
    many = {b"%d" % n: n for n in range(3 * _KEPT_VALUES)}
    view.write(many)
    records = [OutputRecord("changelog", key, b"%d" % value) for key, value in many.items()]
    view.saved(records, len(records), unsaved=(), alone=False)
    assert [view.get(key) for key in many] == list(many.values())
    assert len(view._kept) == _KEPT_VALUES
    assert view._unsaved == {}
    assert len(view) == len(many)


def test_a_folder_that_another_worker_uses_is_refused_with_its_name(
    store: DiskStore, tmp_path: Path
) -> None:
    view = opened(store)
    with pytest.raises(ConfigError, match=f"^the states in {tmp_path}/changelog/0 cannot be "):
        opened(DiskStore(tmp_path))
    view.close()


@pytest.mark.broker
async def test_a_restart_on_the_same_disk_reads_only_the_rest_of_the_changelog(
    job: Job, tmp_path: Path
) -> None:
    expected = await produce(job, 2_000)
    async with running(counting_app(job, store=DiskStore(tmp_path / "one"))) as first:
        await until(lambda: len(first.processed) >= 2_000, "all records processed")
    more = await produce(job, 100, first=2_000)
    # Another worker goes on with a disk of its own.
    async with running(counting_app(job, store=DiskStore(tmp_path / "two"))) as other:
        await until(lambda: len(other.processed) >= 100, "all records processed")
    written = other.app.progress.changelog_records
    assert other.app.progress.restored_records > written > 0

    async with running(counting_app(job, store=DiskStore(tmp_path / "one"))) as again:
        await until(lambda: again.app.progress.recovered, "states restored")
        assert again.app.progress.restored_records == written
        assert {key: each.count for key, each in again.states().items()} == {
            key: each.count + more.get(key, EMPTY).count for key, each in expected.items()
        }


def files_with(folder: Path, text: bytes) -> list[str]:
    return [each.name for each in folder.rglob("*") if each.is_file() and text in each.read_bytes()]


@pytest.mark.parametrize("key", ["a-first", "user-middle", "z-last"])
def test_what_is_deleted_is_in_no_file_any_more(store: DiskStore, tmp_path: Path, key: str) -> None:
    view = store.open("changelog", 0, bytes)
    others = {b"user-%06d" % n: os.urandom(90) for n in range(60_000)}

    def save(values: dict[bytes, bytes | None]) -> None:
        records = [OutputRecord("changelog", *pair) for pair in values.items()]
        view.saved(records, view.begin + len(records), unsaved=(), alone=True)

    save(dict(list(others.items())[:30_000]))
    # Random, so that no compression hides them.
    lives = [os.urandom(40), os.urandom(40)]
    save({key.encode(): lives[0]})
    view._db.flush()
    save(dict(list(others.items())[30_000:]))
    save({key.encode(): lives[1]})
    first, second = (files_with(tmp_path, life) for life in lives)
    assert [name for name in first if name.endswith(".sst")]
    assert [name for name in second if name.endswith(".log")]

    save({key.encode(): None})
    found = [files_with(tmp_path, text) for text in (*lives, key.encode())]
    assert found == [[], [], []]
    view.close()
    again = store.open("changelog", 0, bytes)
    assert dict(again) == others


def test_a_crash_between_a_deletion_and_its_end_is_made_good_at_the_next_start(
    store: DiskStore, tmp_path: Path
) -> None:
    view = store.open("changelog", 0, bytes)
    view.restored([RawRecord(0, 0, b"canary", b"sings", ()), RawRecord(1, 0, b"b", b"", ())], 2)
    view.close()
    # As `_apply` leaves it when the process dies before the files are written anew.
    raw = Rdict(str(tmp_path / "changelog" / "0"), options=Options(raw_mode=True))
    raw.delete(b"kcanary")
    raw.put(b"d", b"")
    raw.close()
    assert files_with(tmp_path, b"sings")

    again = store.open("changelog", 0, bytes)
    assert files_with(tmp_path, b"sings") == files_with(tmp_path, b"canary") == []
    assert (again.begin, dict(again)) == (2, {b"b": b""})


def test_many_deletions_at_once_leave_nothing_either(store: DiskStore, tmp_path: Path) -> None:
    view = store.open("changelog", 0, bytes)
    keys = [b"canary-%03d" % n for n in range(200)]
    view.restored([RawRecord(n, 0, key, b"sings", ()) for n, key in enumerate(keys)], 200)
    gone = [RawRecord(200 + n, 0, key, None, ()) for n, key in enumerate(keys)]
    view.restored(gone, 400)
    assert files_with(tmp_path, b"canary") == files_with(tmp_path, b"sings") == []
    assert dict(view) == {}
