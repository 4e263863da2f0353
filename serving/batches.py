"""Encoded paths -> input tensors of a model, and its outputs -> scores.

A path is cut to the shortest of a few lengths ("time buckets") that holds it, chosen by its own
length alone: short paths are cheap, and no path's scores depend on who else is in the batch. Nor
do they depend on the number of rows, bit for bit, as long as one thread computes them and there is
more than one row: of a single row onnxruntime sums in another order. So a single row runs twice.

Probabilities are rounded to `DECIMALS`, which keeps records short and hides the last bits in which
two machines may differ.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from clickpath.encoding import FEATURES
from clickpath.errors import PredictorUnavailable
from clickpath.scores import Scores

DECIMALS: Final = 6
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


def scores_of(
    next_action: npt.NDArray[np.float32], purchase: npt.NDArray[np.float32]
) -> list[Scores]:
    """Scores from a model's outputs, shapes (batch, ACTION_COUNT) and (batch,).

    Raises:
        PredictorUnavailable: A value is not a probability.
    """
    both = np.concatenate([next_action, purchase[:, None]], axis=1).astype(np.float64)
    # Written so that NaN fails it too.
    if not bool(np.all((both >= 0.0) & (both <= 1.0 + 1e-6))):
        raise PredictorUnavailable("the model gave a value that is no probability")
    return [
        Scores(tuple(row[:-1]), row[-1])
        for row in np.minimum(np.round(both, DECIMALS), 1.0).tolist()
    ]
