"""What a model can learn from before and after its training proper.

pretraining   From paths alone, without labels: each step foretells the next event. Labels are only
              known for the newest steps of an example; here every step of it teaches.
masked        The same for events that are hidden from the model: the action, item and category of
              a share of the steps, which it has to tell from the steps before, and from the time,
              price and place that it still sees.

Both come as examples of another part, so that the loop knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from clickpath.encoding import FEATURE_NAMES
from training.dataset import Batch, Part
from training.labels import HEAD
from training.shards import Ints

_ACTION: Final = FEATURE_NAMES.index("action")
_FORETOLD: Final = {"next_action": "action", "next_category": "category", "next_item": "item"}


@dataclass(frozen=True, slots=True)
class NextEvents:
    """The examples of a part, each step labelled with the event after it.

    Attributes:
        part: The examples.
        masked: Share of the steps that are hidden and have to be told themselves; 0 to hide none
            and foretell.
    """

    part: Part
    masked: float = 0.0

    def __len__(self) -> int:
        return len(self.part)

    def batches(self, size: int, seed: int | Sequence[int] | None = None) -> Iterator[Batch]:
        """See `Part.batches`; what is hidden follows from the seed too."""
        rng = np.random.default_rng(0 if seed is None else seed)
        for batch in self.part.batches(size, seed):
            yield hidden(batch, self.masked, rng) if self.masked else foretold(batch)


def foretold(batch: Batch) -> Batch:
    """The examples with the labels that their own later steps tell."""
    labels = {name: np.full_like(of, HEAD[name].unknown) for name, of in batch.labels.items()}
    for name, feature in _FORETOLD.items():
        labels[name] = _following(batch.paths[:, FEATURE_NAMES.index(feature)])
    return replace(batch, labels=labels)


def hidden(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """The examples with some steps hidden, which are the labels.

    Args:
        batch: The examples.
        share: Of the steps that are hidden.
        rng: Says which.
    """
    chosen = (rng.random(batch.paths[:, 0].shape) < share) & (batch.paths[:, _ACTION] != 0)
    labels = {name: np.full_like(of, HEAD[name].unknown) for name, of in batch.labels.items()}
    paths = batch.paths.copy()
    for name, feature in _FORETOLD.items():
        column = FEATURE_NAMES.index(feature)
        labels[name] = np.where(chosen, batch.paths[:, column], 0)
        paths[:, column] = np.where(chosen, 0, batch.paths[:, column])
    return replace(batch, paths=paths, labels=labels)


def _following(values: Ints) -> Ints:
    """For each step the next value that is not 0, or 0: (n, T) -> (n, T)."""
    following = np.zeros_like(values)
    for step in range(values.shape[1] - 2, -1, -1):
        after = values[:, step + 1]
        following[:, step] = np.where(after != 0, after, following[:, step + 1])
    return following
