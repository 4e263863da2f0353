"""A path as one row of numbers, after each of its steps: what trees on session features see.

Of what lies before the session only repeats are told. How many steps a path has, or what they were,
would tell trees where in its training array a step stands, and the newest step of a user's last
array is known to end its session more often than not: trees that saw it learned that and failed
on later data.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from clickpath.encoding import FEATURE_NAMES
from clickpath.vocabulary import ACTION_COUNT, ACTIONS
from training.dataset import Ints
from training.metrics import Floats

_LAST: Final = 3

NAMES: Final = (
    *(f"action_{back}_back" for back in range(_LAST)),
    *(f"gap_{back}_back" for back in range(_LAST)),
    "session_position",
    "price_bucket",
    "repeats_item",
    "repeats_category",
    *(f"in_session_{action}" for action in ACTIONS),
)


def summaries(paths: Ints) -> Floats:
    """The numbers after each step, none of which looks at a later one.

    Args:
        paths: Shape (batch, FEATURES, time).

    Returns:
        Shape (batch, time, len(NAMES)).
    """
    action, item, category, price, gap, position = (
        paths[:, FEATURE_NAMES.index(name)]
        for name in ("action", "item", "category", "price_bucket", "gap_bucket", "session_position")
    )
    time = np.arange(paths.shape[2])
    columns = [_back(action, n) for n in range(_LAST)] + [_back(gap, n) for n in range(_LAST)]
    columns += [position, price]
    for token in (item, category):
        before = np.tril(token[:, :, None] == token[:, None, :], -1) & (token != 0)[:, :, None]
        columns.append(before.sum(axis=2))
    each = action[:, :, None] == np.arange(1, ACTION_COUNT)  # (n, T, actions)
    so_far = np.cumsum(each, axis=1)
    # Up to where the session began: the place of its first step, minus one
    begin = time + 1 - np.minimum(position, time + 1)
    before_session = np.where(
        (begin > 0)[:, :, None],
        np.take_along_axis(so_far, np.maximum(begin - 1, 0)[:, :, None], axis=1),
        0,
    )
    return np.concatenate([np.stack(columns, axis=-1), so_far - before_session], axis=-1).astype(
        np.float64
    )


def _back(values: Ints, steps: int) -> Ints:
    shifted = np.zeros_like(values)
    shifted[:, steps:] = values[:, : values.shape[1] - steps]
    return shifted
