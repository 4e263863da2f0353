"""What a model has to beat.

    popularity, markov1, markov2   counting by the last 0, 1, 2 actions, categories or items
    knn                            what sessions like this one went on to
    lightgbm                       trees on a summary of the path
    gru                            a recurrent net on the very input of the Transformer

Each is fitted on the training part and says, for the heads that it applies to, what a model says:
see `training.said`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from training.baselines.counting import NAMES, counted
from training.dataset import Part
from training.said import Said

__all__ = ["EVERY", "NAMES", "Baseline", "fit", "fit_all"]

#: The names of all baselines, the cheap ones first.
EVERY = (*NAMES, "knn", "lightgbm", "gru")


class Baseline(Protocol):
    """Something that was fitted, and answers like a model."""

    def predict(self, part: Part) -> Said:
        """What it says after the last step of each path, by head."""
        ...


def fit(part: Part) -> dict[str, Baseline]:
    """The baselines that only count, from the labels of the training part."""
    return {name: counted(part, order) for order, name in enumerate(NAMES)}


def fit_all(
    train_part: Part, valid_part: Part, seed: int, say: Callable[[str], None] = lambda _: None
) -> dict[str, Baseline]:
    """All baselines.

    Args:
        train_part: What they are fitted on.
        valid_part: What those that learn in rounds stop by.
        seed: Of those that draw.
        say: Takes a line for a person before each one.
    """
    # Only now: both take seconds to import.
    from training.baselines.boosting import boosted
    from training.baselines.neighbours import neighbours
    from training.baselines.recurrent import recurrent

    say("counting")
    every = dict(fit(train_part))
    say("remembering sessions")
    every["knn"] = neighbours(train_part)
    say("growing trees")
    every["lightgbm"] = boosted(train_part, valid_part, seed)
    say("training a GRU")
    every["gru"] = recurrent(train_part, valid_part, seed)
    return every
