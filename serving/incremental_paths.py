"""Paths as far as a model looks at them, to be followed and to be compared with what was before."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.incremental_graphs import Form, Ints

_ITEM, _POSITION = 1, 5

#: The features of a step whose values fit into one byte; the position is cut to the context.
_SMALL: Final = (0, 3, 4)

#: Integers that tell what a model may see of a step: item, category, and the others in one.
TOLD: Final = 3

#: Which ones of several things.
Rows = npt.NDArray[np.intp] | slice


class Newest(NamedTuple):
    """The newest steps of paths, as far as a model looks.

    Attributes:
        encoded: The paths, (N, FEATURES, steps), padding at the end.
        lengths: How many steps they have, (N,).
        told: What a model may see of the newest ones, (N, TOLD, reach), the last one last; zeros
            before the first one.
    """

    encoded: Ints
    lengths: Ints
    told: Ints

    def of(self, rows: Rows) -> Newest:
        """Those of some paths."""
        return Newest(*(each[rows] for each in self))

    def steps(self, path: npt.NDArray[np.intp], back: Ints) -> Ints:
        """Steps of paths, so many before the last one: (N, FEATURES)."""
        return self.encoded[path, :, self.lengths[path] - 1 - back]


def newest_of(encoded: Ints, form: Form) -> Newest:
    """The newest steps of encoded paths, (N, FEATURES, steps) with padding at the end."""
    reach, steps = form.reach, encoded.shape[2]
    lengths: Ints = np.count_nonzero(encoded[:, 0], axis=1)
    wide = encoded[:, :, -reach:]
    short = np.flatnonzero(lengths < steps)
    if len(short):
        at = lengths[short, None] + np.arange(-reach, 0)  # (short, reach)
        newest = np.take_along_axis(encoded[short], np.maximum(at, 0)[:, None], 2)
        wide = wide.copy()
        wide[short] = newest * (at >= 0)[:, None]
    return Newest(encoded, lengths, _told(wide, form))


def _told(steps: Ints, form: Form) -> Ints:
    """What a model may see of steps (N, FEATURES, time): (N, TOLD, time)."""
    told = np.empty((len(steps), TOLD, steps.shape[2]), np.int64)
    told[:, :2] = steps[:, _ITEM : _ITEM + 2]
    others = told[:, 2]
    np.minimum(steps[:, _POSITION], form.context, out=others)
    for feature in _SMALL:
        others <<= 8
        others |= steps[:, feature]
    return told


def continues(newest: Ints, earlier: Ints, new: int, form: Form) -> npt.NDArray[np.bool_]:
    """Which paths are earlier ones with so many steps more, as far as it can make a difference.

    Args:
        newest: What is told of them, (N, TOLD, reach).
        earlier: The same of the earlier ones.
        new: How many steps more.
        form: How far the model looks at a step, and how far at its item only.
    """
    end, first = form.reach - new, form.context - 1
    items = newest[:, 0, :end] == earlier[:, 0, new:]
    others = newest[:, 1:, first:end] == earlier[:, 1:, first + new :]
    same: npt.NDArray[np.bool_] = items.all(1) & others.all((1, 2))
    return same
