"""Publishing: whatever moment a reader dies at, no row is lost and none is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickpath.errors import ConfigError, FatalError, UsageError
from clickpath.events import Click
from stream.archive.columns import CLICKS, Origin, batch_of, click_row
from stream.archive.place import Place
from stream.archive.shelf import Card, Rows, Shelf, open_archive

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Died(Exception):
    pass


class Dying(Place):
    """A place whose user dies after so many steps."""

    def __init__(self, address: str, steps: int) -> None:
        super().__init__(address)
        self._steps = steps

    def _step(self) -> None:
        if self._steps == 0:
            raise Died
        self._steps -= 1

    def write(self, name: str, content: bytes) -> None:
        self._step()
        super().write(name, content[: len(content) // 2])  # as if it died within the write
        self._step()
        super().write(name, content)

    def replace(self, name: str, content: bytes) -> None:
        self._step()
        Place(self.address).replace(name, content)

    def move(self, name: str, target: str) -> bool:
        self._step()
        return super().move(name, target)

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)


@pytest.fixture(params=["local", "memory"])
def address(request: pytest.FixtureRequest, tmp_path) -> Iterator[str]:  # type: ignore[no-untyped-def]
    if request.param == "local":
        yield str(tmp_path / "archive")
        return
    yield "memory://archive"
    fsspec.filesystem("memory").store.clear()


def rows(first: int, end: int, begun: int = 0) -> Rows:
    """One row for each offset, on alternating days and of five users."""
    made = [
        click_row(
            Click(f"e-{n}", f"u-{n % 5}", (20_000 + n % 2) * DAY_MS, "view_item", "view_item"),
            Origin(n, "clicks", 0, n),
        )
        for n in range(first, end)
    ]
    return Rows(pa.Table.from_batches([batch_of(made, CLICKS)]), begun, end)


def shelf(place: Place, now_ms: int = 0) -> Shelf:
    return Shelf(place, "clicks", "clicks", 0, buckets=3, clock=lambda: now_ms)


def offsets(address: str) -> list[int]:
    """The offsets of all rows that a reader of the archive sees, in order."""
    filesystem, root = fsspec.url_to_fs(address)
    found = []
    for name in filesystem.find(f"{root}/clicks"):
        with filesystem.open(name) as file:
            found += pq.read_table(file, columns=["offset"])["offset"].to_pylist()
    return sorted(found)


def test_a_crash_at_any_step_neither_loses_nor_doubles_a_row(address: str) -> None:
    for steps in count():
        root = f"{address}-{steps}"
        shelf(Place(root)).open()
        first = shelf(Place(root))
        first.open()
        first.publish(rows(0, 10))
        dying = shelf(Dying(root, steps))
        try:
            dying.open()
            dying.publish(rows(10, 30, begun=10))
        except Died:
            pass
        else:
            assert steps > 10
            break
        # The next reader begins at the same committed offset, but publishes at another one.
        after = shelf(Place(root))
        journal = after.open()
        assert journal is not None
        if journal.upto < 25:
            after.publish(rows(journal.upto, 25, begun=10))
            journal = after.open()
        assert journal is not None
        after.publish(rows(journal.upto, 40, begun=10))
        assert offsets(root) == [*range(40)], steps


def test_the_same_rows_have_the_same_names_and_bytes(address: str) -> None:
    contents = []
    for attempt in ("a", "b"):
        one = shelf(Place(address + attempt))
        one.open()
        one.publish(rows(100, 130))
        filesystem, root = fsspec.url_to_fs(address + attempt)
        names = filesystem.find(f"{root}/clicks")
        contents.append({name.removeprefix(root): filesystem.cat_file(name) for name in names})

    assert contents[0] == contents[1]
    assert len(contents[0]) == 4
    assert "/clicks/day=2024-10-04/bucket=1/clicks-0-00000000000000000100.parquet" in contents[0]


def test_a_reader_with_a_successor_stops(address: str) -> None:
    old, new = shelf(Place(address)), shelf(Place(address))
    old.open()
    new.open()
    new.publish(rows(0, 20))

    with pytest.raises(FatalError, match="continued by another reader"):
        old.publish(rows(0, 10))

    assert offsets(address) == [*range(20)]


def test_what_a_crash_left_aside_is_removed_once_it_is_old(address: str) -> None:
    place = Place(address)
    dying = shelf(Dying(address, 5), now_ms=HOUR_MS)
    dying.open()
    with pytest.raises(Died):
        dying.publish(rows(0, 20))

    shelf(place, now_ms=2 * HOUR_MS).open()
    assert len(place.folders("_archive/aside/clicks-0")) == 1

    shelf(place, now_ms=2 * HOUR_MS + 1).open()
    assert place.folders("_archive/aside/clicks-0") == []


def test_days_that_were_removed_stay_removed(address: str) -> None:
    place = Place(address)
    one = shelf(place)
    one.open()
    one.publish(rows(0, 10))
    place.remove("clicks/day=2024-10-04")

    assert shelf(place).open() is not None
    assert offsets(address) == [1, 3, 5, 7, 9]


def test_an_archive_keeps_its_buckets_and_its_group(address: str) -> None:
    place = Place(address)
    open_archive(place, Card(buckets=4, group="shop-archive"))
    open_archive(place, Card(buckets=4, group="shop-archive"))

    with pytest.raises(ConfigError, match="has 4 buckets, the settings ask for 8"):
        open_archive(place, Card(buckets=8, group="shop-archive"))
    with pytest.raises(ConfigError, match="written by the group shop-archive, and this is other"):
        open_archive(place, Card(buckets=4, group="other"))


def test_an_address_that_nobody_knows_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'nonsense://x' cannot hold an archive"):
        Place("nonsense://x")


def test_a_place_that_cannot_be_written_is_said_with_its_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")

    with pytest.raises(FatalError, match="file/archive failed"):
        open_archive(Place(str(tmp_path / "file" / "archive")), Card(buckets=4, group="g"))
