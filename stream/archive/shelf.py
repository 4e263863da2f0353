"""One topic partition's place in an archive: its files, and the journal that makes them whole.

See rules 5 to 8 of the package. Everything here blocks, and runs in a thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clickpath.errors import ConfigError, FatalError, UsageError
from stream.archive.columns import BUCKET_COLUMN, TIME_COLUMN
from stream.archive.place import Place

_OWN: Final = "_archive"
_CARD: Final = f"{_OWN}/archive.json"
_DAY_MS: Final = 24 * 3_600_000

#: Files aside that are older were left by a crash; younger ones may be those of a reader that has
#: not noticed yet that its partition was given to this one.
_GARBAGE_MS: Final = 3_600_000

_Offset = Annotated[int, Field(ge=0)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Literal[1] = 1


T = TypeVar("T", bound=_Stored)


class Card(_Stored):
    """What holds for a whole archive, from its first day on.

    Attributes:
        buckets: Number of buckets of a day.
        group: The consumer group that writes to it.
    """

    buckets: Annotated[int, Field(ge=1)]
    group: str


class Journal(_Stored):
    """How far one topic partition is archived.

    Attributes:
        begun: Where the group stood, by its committed offset, when the rows were published.
        upto: Rows below this offset are archived.
        witness: Offset and timestamp of a record at or above `begun`, by which its topic is known.
        moves: What remains to be done for it: files written aside, and where they belong.
    """

    begun: _Offset
    upto: _Offset
    witness: tuple[int, int]
    moves: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to publish, in order of offset, at least one.

    Attributes:
        table: The rows.
        begun: The group's committed offset.
        upto: Below it, all accepted rows of the partition are in the archive or in the table.
    """

    table: Any
    begun: int
    upto: int


def open_archive(place: Place, card: Card) -> None:
    """Makes sure that an archive is what the settings say; makes a new one where there is none.

    Raises:
        ConfigError: It has another number of buckets, or another group writes to it.
        FatalError: It cannot be read or written.
    """
    raw = place.read(_CARD)
    if raw is None:
        place.replace(_CARD, card.model_dump_json().encode())
        return
    found = _stored(Card, raw, f"{place.address}/{_CARD}")
    if found.buckets != card.buckets:
        raise ConfigError(
            f"the archive at {place.address} has {found.buckets} buckets, the settings ask for "
            f"{card.buckets}; set CLICKPATH_ARCHIVE_BUCKETS={found.buckets}, or take a new address"
        )
    if found.group != card.group:
        raise ConfigError(
            f"the archive at {place.address} is written by the group {found.group}, and this is "
            f"{card.group}; take another address"
        )


def check_there(place: Place) -> None:
    """Makes sure that there is an archive, and not just an address with a mistake in it.

    Raises:
        UsageError: There is none.
        FatalError: It cannot be read.
    """
    if place.read(_CARD) is None:
        raise UsageError(f"there is no archive at {place.address}: it has no {_CARD}")


class Shelf:
    """The files of one topic partition.

    Args:
        place: The archive.
        kind: "clicks", "decisions" or "erasures".
        topic: The topic.
        partition: Its partition.
        buckets: Number of buckets of a day.
        clock: The present in epoch milliseconds; tells what was left aside by a crash.
    """

    def __init__(
        self,
        place: Place,
        kind: str,
        topic: str,
        partition: int,
        *,
        buckets: int,
        clock: Callable[[], int],
    ) -> None:
        self.name = f"{topic}-{partition}"
        self._place = place
        self._kind = kind
        self._buckets = buckets
        self._clock = clock
        self._journal_name = f"{_OWN}/journal/{self.name}.json"
        self._aside = f"{_OWN}/aside/{self.name}"
        self._journal: Journal | None = None

    def open(self) -> Journal | None:
        """Finishes what a crash has left, and tells how far the partition is archived."""
        self._journal = self._read()
        for aside, target in self._journal.moves if self._journal is not None else ():
            self._place.move(aside, target)
        for folder in self._place.folders(self._aside):
            if int(folder.partition("-")[0]) < self._clock() - _GARBAGE_MS:
                self._place.remove(f"{self._aside}/{folder}")
        return self._journal

    def publish(self, rows: Rows) -> int:
        """Adds rows to the archive; returns the number of files.

        Raises:
            FatalError: Somebody else has written for this partition, or the archive failed.
        """
        first: int = rows.table["offset"][0].as_py()
        witness = (first, rows.table["received_ms"][0].as_py())
        # A name of its own: a reader that slept and does not know its successor harms no file.
        aside = f"{self._aside}/{self._clock():013d}-{secrets.token_hex(4)}"
        moves = []
        for number, (folder, part) in enumerate(self._parts(rows.table)):
            name = f"{aside}/{number}.parquet"
            self._place.write(name, parquet_bytes(part))
            moves.append((name, f"{self._kind}/{folder}/{self.name}-{first:020d}.parquet"))
        if self._read() != self._journal:
            raise FatalError(
                f"{self.name} in the archive at {self._place.address} was continued by another "
                "reader; this one stops"
            )
        journal = Journal(begun=rows.begun, upto=rows.upto, witness=witness, moves=moves)
        self._place.replace(self._journal_name, journal.model_dump_json().encode())
        self._journal = journal
        for name, target in moves:
            if not self._place.move(name, target):
                raise FatalError(f"{name} in the archive at {self._place.address} is gone")
        self._place.remove(aside)
        return len(moves)

    def _read(self) -> Journal | None:
        raw = self._place.read(self._journal_name)
        if raw is None:
            return None
        return _stored(Journal, raw, f"{self._place.address}/{self._journal_name}")

    def _parts(self, table: Any) -> Iterator[tuple[str, Any]]:
        """The rows by day and bucket, with the name of their folder; in their order in each."""
        days = table[TIME_COLUMN[self._kind]].to_numpy() // _DAY_MS
        users = table[BUCKET_COLUMN[self._kind]].to_pylist()
        buckets = np.fromiter((bucket_of(user, self._buckets) for user in users), np.int64)
        keys = days * self._buckets + buckets
        order = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[order], prepend=-1))
        for begin, end in zip(begins, [*begins[1:], len(order)], strict=True):
            day, bucket = divmod(int(keys[order[begin]]), self._buckets)
            date = np.datetime64(day, "D")
            yield f"day={date}/bucket={bucket}", table.take(pa.array(order[begin:end]))


def bucket_of(user_id: str, buckets: int) -> int:
    """The bucket of a user: BLAKE2b, 8 bytes, personalised `bucket`, big-endian, modulo."""
    raw = blake2b(user_id.encode("utf-8"), digest_size=8, person=b"bucket").digest()
    return int.from_bytes(raw, "big") % buckets


def parquet_bytes(table: Any) -> bytes:
    """The content of a file of rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _stored(kind: type[T], raw: bytes, where: str) -> T:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise FatalError(f"{where} cannot be read: {first['loc']}: {first['msg']}") from error
