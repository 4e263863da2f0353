"""Encoded paths -> input tensors of a model.

A path is cut to the shortest of a few lengths ("time buckets") that holds it, chosen by its own
length alone: short paths are cheap, and no path's scores depend on who else is in the batch. Nor
do they depend on the number of rows, bit for bit, as long as one thread computes them and there is
more than one row: of a single row onnxruntime sums in another order. So a single row runs twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from clickpath.encoding import FEATURES

_BUCKETS: Final = (8, 16, 32)


class Batch(NamedTuple):
    """Rows that run together.

    Attributes:
        rows: Positions of the paths in the call; a single one stands here twice. Shape (batch,).
        paths: The input, shape (batch, FEATURES, time).
    """

    rows: npt.NDArray[np.intp]
    paths: npt.NDArray[np.int64]


def time_buckets(steps: int) -> tuple[int, ...]:
    """The lengths at which paths of at most `steps` steps are scored, ascending."""
    return (*(length for length in _BUCKETS if length < steps), steps)


def batches(paths: Sequence[array[int]], steps: int, most_rows: int) -> Iterator[Batch]:
    """Cuts encoded paths into batches of equal length and at most `most_rows` rows."""
    encoded = np.frombuffer(b"".join(paths), dtype=np.int64)  # (paths * FEATURES * steps,)
    encoded = encoded.reshape(len(paths), FEATURES, steps)
    lengths = np.count_nonzero(encoded[:, 0, :], axis=1)  # (paths,)
    shortest = 0
    for length in time_buckets(steps):
        rows = np.flatnonzero((lengths >= shortest) & (lengths <= length))
        shortest = length + 1
        for start in range(0, len(rows), most_rows):
            some = rows[start : start + most_rows]
            if len(some) == 1:
                some = np.repeat(some, 2)
            yield Batch(some, np.ascontiguousarray(encoded[some, :, :length]))
