"""What a model has to beat: counting.

Each baseline is a table of counts from the training part, by what the last actions were: none
(popularity), one (Markov of order 1) or two (order 2). A row is smoothed towards the row of the
order below it, as if that one had been seen `PRIOR` times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clickpath.vocabulary import ACTION_COUNT
from training.dataset import Ints, Part
from training.labels import UNKNOWN

PRIOR: Final = 5.0
NAMES: Final = ("popularity", "markov1", "markov2")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Counts of what follows, by the last actions.

    Attributes:
        next_action: Shape (ACTION_COUNT ** order, ACTION_COUNT): probabilities.
        purchase: Shape (ACTION_COUNT ** order,): probability.
        order: How many actions it looks at.
    """

    next_action: Floats
    purchase: Floats
    order: int

    def predict(self, part: Part) -> tuple[Floats, Floats]:
        """What it says after the last step of each path: (n, ACTION_COUNT) and (n,)."""
        every = part.whole()
        rows = contexts(every.paths[:, 0], self.order)[np.arange(len(part)), every.lengths - 1]
        return self.next_action[rows], self.purchase[rows]


def contexts(actions: Ints, order: int) -> Ints:
    """The last `order` actions of each step as one number, shape as `actions` (batch, time)."""
    row = np.zeros_like(actions)
    for back in range(order):
        shifted = np.zeros_like(actions)
        shifted[:, back:] = actions[:, : actions.shape[1] - back]
        row = row * ACTION_COUNT + shifted
    return row


def fit(part: Part) -> dict[str, Baseline]:
    """All baselines, from the labels of the training part."""
    baselines: dict[str, Baseline] = {}
    every = part.whole()
    action_labels, purchase_labels = every.labels["next_action"], every.labels["purchase"]
    # Before anything was seen, all actions are alike, and a purchase is a coin.
    action_prior = np.full((1, ACTION_COUNT), 1.0 / (ACTION_COUNT - 1))
    action_prior[:, 0] = 0.0
    purchase_prior = np.full(1, 0.5)
    for order, name in enumerate(NAMES):
        size = ACTION_COUNT**order
        rows = contexts(every.paths[:, 0], order)
        known = action_labels != 0
        counts = np.zeros((size, ACTION_COUNT))
        np.add.at(counts, (rows[known], action_labels[known]), 1.0)
        counts += PRIOR * action_prior
        settled = purchase_labels != UNKNOWN
        bought = np.bincount(rows[settled], purchase_labels[settled], size)
        seen = np.bincount(rows[settled], minlength=size)
        purchase = (bought + PRIOR * purchase_prior) / (seen + PRIOR)
        next_action = counts / counts.sum(axis=1, keepdims=True)
        baselines[name] = Baseline(next_action, purchase, order)
        # The context (a, b) of order 2 leans on the context (a) of order 1, a being the last one:
        # `contexts` puts the last action first, so each row stands for ACTION_COUNT rows below.
        action_prior = np.repeat(next_action, ACTION_COUNT, axis=0)
        purchase_prior = np.repeat(purchase, ACTION_COUNT)
    return baselines
