"""Rows of an archive whose users were erased; no corpus gives them, also while files have them.

A mark does not tell the hash by which examples know their user. So those that were made before an
erasure are held against the archive: they are of somebody erased unless their user is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickpath.erasure import mark_of
from training.addresses import files_at_address
from training.examples import user_hash
from training.shards import Ints

#: The columns that tell where a row comes from.
PLACE: Final = ("topic", "partition", "offset")

_COLUMNS: Final = ("mark", "erased_topic", "erased_partition", "erased_offset")


class Erased:
    """What was erased.

    Args:
        upto: By mark, topic and partition of the clicks: rows below this offset are erased.
        address: The archive.
    """

    def __init__(self, upto: dict[tuple[str, str, int], int], address: str) -> None:
        self._address = address
        self._upto = upto
        self._marks = {mark for mark, _, _ in upto}
        self._mark = lru_cache(1 << 16)(mark_of)

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with each further erasure."""
        return sha256(repr(sorted(self._upto.items())).encode()).hexdigest()[:16]

    def gone(self, users: Ints) -> Ints:
        """Those of some users whom the archive does not have, or who were erased and came back.

        Args:
            users: Shape (n,): hashes, sorted, each once.
        """
        there = np.zeros(len(users), bool)
        for rows in _rows(self._address, "clicks", ["user_id"]):
            ids = set(rows.column("user_id").to_pylist()) - {None}
            some = [user_hash(each) for each in ids if self._mark(each) not in self._marks]
            there |= np.isin(users, some)
        return users[~there]

    def without(self, rows: Any, refused: Counter[str]) -> Any:
        """A batch of clicks without those that are erased, which `refused` counts."""
        names = ("user_id", *PLACE)
        places = zip(*(rows.column(name).to_pylist() for name in names), strict=True)
        kept = [not self._has(*place) for place in places]
        gone = len(kept) - sum(kept)
        if not gone:
            return rows
        refused["erased"] += gone
        return rows.filter(pa.array(kept))

    def _has(self, user_id: str, topic: str, partition: int, offset: int) -> bool:
        mark = self._mark(user_id)
        return mark in self._marks and offset < self._upto.get((mark, topic, partition), -1)


def erased_in(address: str) -> Erased:
    """What an archive says was erased."""
    upto: dict[tuple[str, str, int], int] = {}
    for rows in _rows(address, "erasures", _COLUMNS):
        for row in rows.to_pylist():
            *place, offset = (row[column] for column in _COLUMNS)
            mark, topic, partition = place
            known = upto.get((mark, topic, partition), -1)
            upto[mark, topic, partition] = max(offset, known)
    return Erased(upto, address)


def _rows(address: str, kind: str, columns: Sequence[str]) -> Iterator[Any]:
    """Columns of all files of a kind, in batches."""
    files, root = files_at_address(address)
    for name in sorted(files.find(f"{root.rstrip('/')}/{kind}")):
        if name.endswith(".parquet"):
            with fsspec.open(files.unstrip_protocol(name), "rb") as file:
                yield from pq.ParquetFile(file).iter_batches(columns=list(columns))
