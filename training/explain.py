"""Which events of a path a probability rests on: by deletion.

A step is taken out of the path, the model is asked again, and what the probability loses is the
step's share (Robnik-Sikonja and Kononenko, "Explaining classifications for individual instances",
2008). The model is asked as it is served; nothing has to be known of what is inside.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clickpath.encoding import FEATURE_NAMES, FEATURES
from training.dataset import Ints
from training.metrics import Floats

_POSITION = FEATURE_NAMES.index("session_position")

#: Probabilities of yes for paths of shape (n, FEATURES, T), shape (n,).
Ask = Callable[[Ints], Floats]


def shares(ask: Ask, path: Ints) -> Floats:
    """What the log odds of a yes lose when a step is deleted, for each step: shape (steps,).

    Args:
        ask: The model.
        path: Shape (FEATURES, T), of `steps` real steps, at least 2.
    """
    steps = int((path[0] != 0).sum())
    kept = ~np.eye(steps, dtype=bool)
    others = np.stack([without(path, each) for each in kept])
    every = np.concatenate([path[None, :, :steps], others])
    odds = log_odds(ask(every))
    lost: Floats = odds[0] - odds[1:]
    return lost


def telling(ask: Ask, path: Ints, count: int) -> list[int]:
    """The steps on which a probability rests most: without them it is another one.

    They are found one by one, each with those before it deleted: two steps that say the same would
    hide one another, and two that say the opposite would undo one another.

    Args:
        ask: The model.
        path: Shape (FEATURES, T), with more than `count` real steps.
        count: How many.

    Returns:
        Places in the path, the most telling first.
    """
    steps = int((path[0] != 0).sum())
    kept = np.ones(steps, bool)
    odds = log_odds(ask(path[None, :, :steps]))[0]
    found: list[int] = []
    for _ in range(count):
        left = np.flatnonzero(kept)
        tried = np.tile(kept, (len(left), 1))
        tried[np.arange(len(left)), left] = False
        others = log_odds(ask(np.stack([without(path, each) for each in tried])))
        found.append(int(left[np.abs(others - odds).argmax()]))
        kept[found[-1]] = False
    return found


def log_odds(probability: Floats) -> Floats:
    """ln(p / (1 - p)), finite."""
    kept = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: Floats = np.log(kept) - np.log1p(-kept)
    return odds


def without(path: Ints, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
    """A path of which only some steps are kept, at its old length; at least one must be.

    Places in the session are counted anew; the silence before a step stays as it was.

    Args:
        path: Shape (FEATURES, T).
        kept: Shape (steps,).
    """
    steps = len(kept)
    session = np.cumsum(path[_POSITION, :steps] == 1)[kept]
    place = np.arange(len(session)) - np.searchsorted(session, session) + 1
    shorter = np.zeros((FEATURES, steps), np.int64)
    shorter[:, : len(session)] = path[:, :steps][:, kept]
    shift = path[_POSITION, 0] - 1  # the session may have begun before the window
    first = session == session[0]
    shorter[_POSITION, : len(session)] = np.where(
        first, np.minimum(place + shift, path[_POSITION].max()), place
    )
    return shorter
