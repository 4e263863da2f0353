"""Rows of an archive whose users were erased; no corpus gives them, also while files have them."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from clickpath.erasure import mark_of

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


def erased_in(address: str) -> Erased | None:
    """What an archive says was erased; None for nothing."""
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
    return Erased(upto) if upto else None
