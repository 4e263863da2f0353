"""Drops the rows of erased users from the files of an archive.

A file is written anew without those rows, aside, and moved over the old one in one step; a file of
which nothing is left is removed. A reader of the archive may go on writing meanwhile: it only adds
files. What such a reader publishes of an erased user later, because it was behind, is passed over
by the trainer and dropped the next time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from clickpath.erasure import mark_of
from stream.archive.place import Place
from stream.archive.shelf import parquet_bytes
from stream.erasing import Receipt

_ASIDE: Final = "_archive/aside/erasing.parquet"


@dataclass(slots=True)
class Dropped:
    """What was done."""

    clicks: int = 0
    decisions: int = 0
    files: int = 0


class _Erased:
    """Which rows are erased."""

    def __init__(self) -> None:
        self.upto: dict[tuple[str, str, int], int] = {}
        self.until_ms: dict[str, int] = defaultdict(lambda: -1)
        self.mark = lru_cache(1 << 16)(mark_of)

    def add(self, mark: str, topic: str, partition: int, offset: int, at_ms: int) -> None:
        place = (mark, topic, partition)
        self.upto[place] = max(offset, self.upto.get(place, -1))
        self.until_ms[mark] = max(at_ms, self.until_ms[mark])

    def has(self, kind: str, user_id: str, topic: str, partition: int, *when: int) -> bool:
        mark = self.mark(user_id)
        if mark not in self.until_ms:
            return False
        offset, received_ms = when
        if kind == "clicks":
            return offset < self.upto.get((mark, topic, partition), -1)
        return received_ms <= self.until_ms[mark]


def forget(place: Place, receipts: Iterable[Receipt] = ()) -> Dropped:
    """Drops the rows of all users whose erasure the archive has, or these receipts tell.

    Raises:
        FatalError: The archive cannot be read or written.
    """
    erased = _Erased()
    for receipt in receipts:
        erased.add(receipt.mark, receipt.topic, receipt.partition, receipt.offset, receipt.at_ms)
    columns = ["mark", "erased_topic", "erased_partition", "erased_offset", "at_ms"]
    for name in place.files("erasures"):
        rows = _table(place, name).select(columns).to_pylist()
        for row in rows:
            erased.add(*(row[column] for column in columns))
    dropped = Dropped()
    if not erased.until_ms:
        return dropped
    for kind in ("clicks", "decisions"):
        for name in place.files(kind):
            gone = _rewrite(place, kind, name, erased)
            setattr(dropped, kind, getattr(dropped, kind) + gone)
            dropped.files += gone > 0
    return dropped


def _rewrite(place: Place, kind: str, name: str, erased: _Erased) -> int:
    table = _table(place, name)
    columns = ("user_id", "topic", "partition", "offset", "received_ms")
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    kept = [not erased.has(kind, *row) for row in rows]
    gone = len(kept) - sum(kept)
    if gone == len(kept):
        place.remove(name)
    elif gone:
        place.write(_ASIDE, parquet_bytes(table.filter(pa.array(kept))))
        place.move(_ASIDE, name)
    return gone


def _table(place: Place, name: str) -> Any:
    return pq.ParquetFile(pa.BufferReader(place.read(name) or b"")).read()
