"""Readers of files: whatever a click log looks like, to records that a broker would carry.

This is the one module of the core that opens files. A file is read as it is asked for, in its own
order, compressed by gzip or not, and nothing in it is lost: a line that cannot be read is handed
out as it stands, to be refused with its reason by whoever parses it. Blank lines are no records.

Clickpath's own and foreign formats are passed through byte for byte. The public logs become
canonical JSON; `clickpath.public_logs` says how.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from clickpath import public_logs
from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_TS_MS
from clickpath.public_logs import Line, Reading
from clickpath.wire import click_to_json, parse
from clickpath.wire.payload import split_msgpack

Headers = tuple[tuple[str, bytes | None], ...]

_CLOUDEVENT: Final[Headers] = (("content-type", b"application/cloudevents+json"),)
_MSGPACK: Final[Headers] = (("content-type", b"application/msgpack"),)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_LINE_BYTES: Final = 64 << 20
_CHUNK_BYTES: Final = 1 << 16

_VIEWS: Final = "train-item-views.csv"
_PURCHASES: Final = "train-purchases.csv"
_CATEGORIES: Final = "product-categories.csv"


@dataclass(frozen=True, slots=True)
class RawLine:
    """One record as it lies in a file.

    Attributes:
        key: The user's id, as a broker is to partition by it; None when the record tells none.
        value: The payload, untouched.
        headers: What a consumer must know in order to read it.
        where: The place, `file:line`; in a file without lines, the number of the record.
    """

    key: bytes | None
    value: bytes
    headers: Headers
    where: str


@dataclass(frozen=True, slots=True)
class LogFormat:
    """A kind of file.

    Attributes:
        about: What it is, in one line, for a person who chooses.
        read: Gives the records of a path, in the order of the file.
    """

    about: str
    read: Callable[[Path], Iterator[RawLine]]


def read_log(path: Path, format_name: str) -> Iterator[RawLine]:
    """The records of a file, one by one.

    Args:
        path: The file; a folder for a log that is made of several.
        format_name: A key of `FORMATS`.

    Returns:
        The records, in the order of the file, in bounded memory.

    Raises:
        UsageError: At once for a name or path that nobody knows; while reading, with the line,
            for a file that cannot be read any further.
    """
    known = FORMATS.get(format_name)
    if known is None:
        names = ", ".join(sorted(FORMATS))
        raise UsageError(f"{format_name!r} is no format; there are {names}")
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    return known.read(path)


def _json_lines(headers: Headers) -> Callable[[Path], Iterator[RawLine]]:
    def read(path: Path) -> Iterator[RawLine]:
        for line in _lines(path):
            yield _keyed(line.raw, headers, line.where)

    return read


def _msgpack_records(path: Path) -> Iterator[RawLine]:
    number = 0
    try:
        for number, value in enumerate(split_msgpack(_chunks(path)), start=1):
            yield _keyed(value, _MSGPACK, f"{path}:{number}")
    except BadEvent as error:
        raise UsageError(f"{path}: cannot be read beyond record {number}: {error}") from error


def _keyed(value: bytes, headers: Headers, where: str) -> RawLine:
    try:
        key = parse(value, headers, MAX_TS_MS).user_id.encode("utf-8")
    except BadEvent:
        return RawLine(None, value, headers, where)
    return RawLine(key, value, headers, where)


def _taobao(path: Path) -> Iterator[RawLine]:
    return _converted(public_logs.taobao(_lines(path)))


def _diginetica_sessions(path: Path) -> Iterator[RawLine]:
    return _converted(public_logs.diginetica_sessions(_lines(path)))


def _diginetica_raw(path: Path) -> Iterator[RawLine]:
    folder = path if path.is_dir() else path.parent
    views, purchases, categories = (
        _plain_or_compressed(folder, name) for name in (_VIEWS, _PURCHASES, _CATEGORIES)
    )
    return _converted(
        public_logs.diginetica_raw(_lines(views), _lines(purchases), _lines(categories))
    )


def _plain_or_compressed(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UsageError(f"{folder} has no {name} and no {name}.gz")


def _converted(readings: Iterable[Reading]) -> Iterator[RawLine]:
    for line, click in readings:
        if click is None:
            yield RawLine(None, line.raw, (), line.where)
        else:
            key = click.user_id.encode("utf-8")
            yield RawLine(key, click_to_json(click), (), line.where)


def _refused(path: Path) -> Iterator[RawLine]:
    raise UsageError(f"{path} holds aggregates of sessions, not clicks: there is nothing to replay")


def _lines(path: Path) -> Iterator[Line]:
    """The lines of a file that are not blank, without their ends, numbered from 1."""
    name, number = str(path), 0
    try:
        with _opened(path) as file:
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                if len(line) == _MAX_LINE_BYTES:
                    raise UsageError(f"{path}:{number}: over {_MAX_LINE_BYTES} bytes long")
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if line and not line.isspace():
                    yield Line(name, number, line)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read beyond line {number}: {error}") from error


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read to its end: {error}") from error


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


FORMATS: Final[dict[str, LogFormat]] = {
    "clickpath": LogFormat("Clickpath's own events, one JSON object a line", _json_lines(())),
    "segment": LogFormat("Segment's calls, one JSON object a line", _json_lines(())),
    "ga4": LogFormat("Google Analytics 4 events, one JSON object a line", _json_lines(())),
    "cloudevents": LogFormat(
        "structured CloudEvents 1.0, one JSON object a line", _json_lines(_CLOUDEVENT)
    ),
    "msgpack": LogFormat("Clickpath's own events, msgpack maps in a row", _msgpack_records),
    "taobao": LogFormat("Taobao's behaviour log, UserBehavior.csv", _taobao),
    "diginetica_raw": LogFormat(
        "the folder of Diginetica's views, purchases and categories (CIKM Cup 2016)",
        _diginetica_raw,
    ),
    "diginetica_sessions": LogFormat(
        "Diginetica's sessions or prefixes, item ids, one session a line", _diginetica_sessions
    ),
    "uci_online_shoppers": LogFormat("refused: aggregates of sessions, not clicks", _refused),
}
"""Every format by its name."""
