"""Where the clicks of a training run come from.

Every corpus gives its clicks one by one, in order of arrival for each user, so that none of them
has to fit into memory. The rows of an archive tell their place in the order of arrival themselves.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_TS_MS, Click
from clickpath.logs import FORMATS, read_log
from clickpath.simulation import simulate
from clickpath.wire import canonical, parse
from training.addresses import files_at_address
from training.erased import PLACE, Erased, erased_in
from training.examples import Entry, entry_of
from training.manifest import Source

#: Public logs: no worker has seen them, and they are cleaned.
FOREIGN: Final = frozenset({"taobao", "diginetica_raw", "diginetica_sessions"})

#: Parquet files with canonical columns, and the worker's archive of them.
PARQUET: Final = "parquet"
ARCHIVE: Final = "archive"

#: Every format of a corpus, with what it is.
CORPUS_FORMATS: Final = {
    **{name: of.about for name, of in FORMATS.items()},
    PARQUET: "Parquet files with the columns of Clickpath's own events",
    ARCHIVE: "the folder or address that the worker's archive is written to",
}

_COLUMNS: Final = ("event_id", "user_id", "ts_ms", "type", "items", "value_cents")
_NEEDED: Final = frozenset({"event_id", "user_id", "ts_ms", "type"})
_BATCH_ROWS: Final = 4096
_EMPTY_CELL: Final = re.compile(rb"^[,;]|[,;]\s*[,;]|[,;]\s*$")


class Corpus(Protocol):
    """Clicks that can be read more than once, the same each time."""

    @property
    def foreign(self) -> bool:
        """Whether no worker has seen them, so that they are cleaned first."""
        ...

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        """All clicks, in order of arrival for each user.

        Args:
            refused: Counts the records that are no clicks, by reason code.
        """
        ...

    def sources(self) -> tuple[Source, ...]:
        """What the clicks are made of, with digests."""
        ...

    def erased(self) -> Erased | None:
        """Who was erased; None where that is not known, as everywhere but in an archive."""
        ...


def corpus_at(address: str, format_name: str, clean: bool = False) -> Corpus:
    """The corpus at a path or an address.

    Args:
        address: A path; for Parquet files also an address that fsspec understands.
        format_name: One of `CORPUS_FORMATS`.
        clean: Whether to clean it although its format is one that workers read.

    Raises:
        UsageError: There is no such format, nothing at the address, or it may not be cleaned.
    """
    if format_name == ARCHIVE and clean:
        raise UsageError("an archive is not cleaned: a model must see what the worker saw")
    if format_name in (PARQUET, ARCHIVE):
        files_at_address(address)
        return Parquet(address, format_name, clean)
    if format_name not in FORMATS:
        raise UsageError(f"{format_name!r} is no format; there are {', '.join(CORPUS_FORMATS)}")
    if not Path(address).exists():
        raise UsageError(f"there is no corpus at {address}")
    return LogFile(Path(address), format_name, clean or format_name in FOREIGN)


@dataclass(frozen=True, slots=True)
class Simulated:
    """Clicks of the simulated shop."""

    events: int
    users: int
    seed: int
    foreign: bool = False

    def clicks(self) -> Iterator[Click]:
        """All clicks, in order of time."""
        return simulate(self.events, self.users, self.seed)

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        """See `Corpus`; none is refused."""
        return map(entry_of, self.clicks(), count())

    def sources(self) -> tuple[Source, ...]:
        """The arguments of the simulator."""
        name = f"simulated: {self.events} events, {self.users} users, seed {self.seed}"
        return (Source(name=name, bytes=0, sha256=""),)

    def erased(self) -> None:
        """See `Corpus`."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log of clicks in one of the formats of `clickpath.logs`."""

    path: Path
    format_name: str
    foreign: bool = False

    def clicks(self, refused: Counter[str] | None = None) -> Iterator[Click]:
        """All clicks that can be read, in the order of the file."""
        for line in read_log(self.path, self.format_name):
            try:
                yield parse(line.value, line.headers, MAX_TS_MS)
            except BadEvent as error:
                if refused is not None:
                    public = self.format_name in FOREIGN
                    refused[_reason(line.value) if public else error.code] += 1

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        """See `Corpus`."""
        return map(entry_of, self.clicks(refused), count())

    def sources(self) -> tuple[Source, ...]:
        """The file, or the files of the folder."""
        return sources_at(str(self.path))

    def erased(self) -> None:
        """See `Corpus`."""


def _reason(line: bytes) -> str:
    """Why a line of a public log is no click; the parser's own reasons are those of JSON."""
    return "missing_value" if _EMPTY_CELL.search(line) else "unreadable"


@dataclass(frozen=True, slots=True)
class Parquet:
    """Parquet files with the canonical columns: one, a folder of them, or the worker's archive.

    Attributes:
        address: A path, or an address that fsspec understands.
        format_name: "parquet", or "archive" for the root of an archive. The rows of an archive
            are the clicks that a worker accepted, with their places in the source topic.
    """

    address: str
    format_name: str = PARQUET
    foreign: bool = False

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        """See `Corpus`; the reasons are those of canonical events."""
        files = self._files()
        places = count()
        erased = self.erased()
        for name in files:
            with fsspec.open(name, "rb") as file, readable(name):
                table = pq.ParquetFile(file)
                columns = _present(name, table)
                if erased:
                    columns += [each for each in PLACE if each not in columns]
                for rows in table.iter_batches(_BATCH_ROWS, columns=columns):
                    kept = erased.without(rows, refused) if erased else rows
                    yield from _entries(kept, places, refused)

    def sources(self) -> tuple[Source, ...]:
        """All files."""
        return sources_at(self._root(), ".parquet")

    def erased(self) -> Erased | None:
        """See `Corpus`."""
        return erased_in(self.address) if self.format_name == ARCHIVE else None

    def _root(self) -> str:
        archived = self.format_name == ARCHIVE
        return f"{self.address.rstrip('/')}/clicks" if archived else self.address

    def _files(self) -> list[str]:
        files = files_at(self._root(), ".parquet")
        if not files:
            raise UsageError(f"there is no Parquet file at {self._root()}")
        return files


def _entries(rows: Any, places: count[int], refused: Counter[str]) -> Iterator[Entry]:
    names = [name for name in rows.schema.names if name not in PLACE or name == "offset"]
    columns = {name: rows.column(name).to_pylist() for name in names}
    of_rows = columns.pop("offset", None) or [next(places) for _ in range(rows.num_rows)]
    for place, *values in zip(of_rows, *columns.values(), strict=True):
        record = dict(zip(columns, values, strict=True))
        if place is None:
            refused["missing_field"] += 1
            continue
        try:
            yield entry_of(canonical.read(record), place)
        except BadEvent as error:
            refused[error.code] += 1


def _present(name: str, table: Any) -> list[str]:
    """The columns to read of a file."""
    names = set(table.schema_arrow.names)
    if missing := _NEEDED - names:
        raise UsageError(f"{name} has no column {sorted(missing)[0]}")
    return [column for column in (*_COLUMNS, "offset") if column in names]


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turns the errors of reading a Parquet file into one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{name} cannot be read as Parquet: {reason}") from error


def files_at(address: str, suffix: str = "") -> list[str]:
    """The addresses of the files at an address, in order of name; hidden ones are passed over.

    Raises:
        UsageError: There is nothing at the address.
    """
    files, root = files_at_address(address)
    if not files.exists(root):
        raise UsageError(f"there is no corpus at {address}")
    found = [root] if files.isfile(root) else sorted(files.find(root))
    return [
        files.unstrip_protocol(each)
        for each in found
        if each.endswith(suffix)
        and not any(name.startswith((".", "_")) for name in _below(each, root).split("/"))
    ]


def sources_at(address: str, suffix: str = "") -> tuple[Source, ...]:
    """The files at an address, with their digests."""
    _, root = files_at_address(address)
    sources = []
    for each in files_at(address, suffix):
        with fsspec.open(each, "rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
            size = file.tell()
        name = _below(files_at_address(each)[1], root) or each.rpartition("/")[2]
        sources.append(Source(name=name, bytes=size, sha256=digest))
    return tuple(sources)


def _below(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/")
