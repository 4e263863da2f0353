"""What a model's inputs and scores were like when it was made, to tell when they have changed.

Inputs are those of single events - the last step of each path of the hold-out - and scores are
counted by the action that they came after, because a policy asks only after some of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from clickpath.encoding import GAP_BUCKETS, PRICE_BUCKETS
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTION_COUNT

#: Inner edges of the bins of purchase scores: they are small more often than not.
EDGES: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
BINS: Final = len(EDGES) + 1

#: The hashes of the items that a model knows, ascending, 64-bit little-endian.
ITEMS_FILE: Final = "items.bin"

_Counts = tuple[int, ...]


class Reference(BaseModel):
    """Counts over the paths of a hold-out.

    Attributes:
        rows: Paths.
        action: Last steps by action id.
        price: By price bucket.
        gap: By gap bucket; steps without one before them are not counted.
        items: Last steps with an item.
        unknown_items: Those of them whose item the model does not know.
        purchase: Purchase scores by the action of the last step and bin; see `EDGES`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    action: _Counts = Field(min_length=ACTION_COUNT)
    price: _Counts = Field(min_length=PRICE_BUCKETS)
    gap: _Counts = Field(min_length=GAP_BUCKETS)
    items: int
    unknown_items: int
    purchase: tuple[_Counts, ...] = Field(min_length=ACTION_COUNT)


def reference_of(
    steps: npt.NDArray[np.int64], purchase: npt.NDArray[np.float64], known: npt.NDArray[np.int64]
) -> Reference:
    """The reference of a hold-out.

    Args:
        steps: The last step of each path, encoded, shape (n, FEATURES).
        purchase: The scores of the paths, shape (n,).
        known: Hashes of the items that the model knows.
    """
    action, item, _, price, gap, _ = steps.T
    named = item != 0
    bins = np.zeros((ACTION_COUNT, BINS), np.int64)
    np.add.at(bins, (action, np.searchsorted(EDGES, purchase, side="right")), 1)
    return Reference(
        rows=len(steps),
        action=tuple(np.bincount(action, minlength=ACTION_COUNT).tolist()),
        price=tuple(np.bincount(price, minlength=PRICE_BUCKETS).tolist()),
        gap=tuple(np.bincount(gap[gap > 0], minlength=GAP_BUCKETS).tolist()),
        items=int(named.sum()),
        unknown_items=int((named & ~np.isin(item, known)).sum()),
        purchase=tuple(tuple(row) for row in bins.tolist()),
    )


def write_items(known: npt.NDArray[np.int64], directory: Path) -> None:
    """Writes the items that a model knows, beside it."""
    (directory / ITEMS_FILE).write_bytes(np.sort(known).astype("<i8").tobytes())


def read_items(directory: Path) -> frozenset[int]:
    """The hashes of the items that a model knows; none where no list lies beside it.

    Raises:
        ModelMismatch: The list cannot be read.
    """
    path = directory / ITEMS_FILE
    try:
        raw = path.read_bytes()
        return frozenset(np.frombuffer(raw, "<i8").tolist())
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        raise ModelMismatch(f"{path} is no list of items: {error}") from error


def purchase_bin(purchase: float) -> int:
    """The bin of a purchase score."""
    return bisect_right(EDGES, purchase)


def psi(expected: Sequence[float], found: Sequence[float]) -> float:
    """Population stability index of two histograms over the same bins.

    Below 0.1 little has changed, above 0.25 much has. Half a count is added to every bin, so that
    an empty one is no infinity.
    """
    expected_total = sum(expected) + 0.5 * len(expected)
    found_total = sum(found) + 0.5 * len(found)
    total = 0.0
    for before, now in zip(expected, found, strict=True):
        p, q = (before + 0.5) / expected_total, (now + 0.5) / found_total
        total += (q - p) * log(q / p)
    return total
