"""Rows of an archive whose users were erased; no corpus gives them, also while files have them.

Examples that were made before an erasure are known by the user's hash, which comes of the mark.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from clickpath.erasure import mark_of
from training.examples import marked
from training.shards import Ints

#: The columns that tell where a row comes from.
PLACE: Final = ("topic", "partition", "offset")

_COLUMNS: Final = ("mark", "erased_topic", "erased_partition", "erased_offset")


class Erased:
    """What was erased.

    Args:
        upto: By mark, topic and partition of the clicks: rows below this offset are erased.
    """

    def __init__(self, upto: dict[tuple[str, str, int], int]) -> None:
        self._upto = upto
        self._marks = {mark for mark, _, _ in upto}
        self._mark = lru_cache(1 << 16)(mark_of)

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with each further erasure."""
        return sha256(repr(sorted(self._upto.items())).encode()).hexdigest()[:16]

    @property
    def users(self) -> Ints:
        """Shape (n,): the hashes of those who were erased, also if they came back."""
        return np.array(sorted(map(marked, self._marks)), np.int64)

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
    files, root = url_to_fs(address)
    upto: dict[tuple[str, str, int], int] = {}
    for name in sorted(files.find(f"{root.rstrip('/')}/erasures")):
        if name.endswith(".parquet"):
            with fsspec.open(files.unstrip_protocol(name), "rb") as file:
                table = pq.ParquetFile(file).read(columns=list(_COLUMNS))
            for row in table.to_pylist():
                *place, offset = (row[column] for column in _COLUMNS)
                mark, topic, partition = place
                known = upto.get((mark, topic, partition), -1)
                upto[mark, topic, partition] = max(offset, known)
    return Erased(upto)
