"""Examples as arrays, and the batches that a training loop takes from them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickpath.encoding import FEATURES
from clickpath.errors import UsageError
from training.examples import PARTS, UNKNOWN, Example

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one part.

    Attributes:
        paths: Shape (examples, FEATURES, steps).
        next_action: Shape (examples, steps); 0 where it is not known.
        purchase: Shape (examples, steps); `UNKNOWN` where it is not known.
        lengths: Shape (examples,): how many real steps each path has.
    """

    paths: Ints
    next_action: NDArray[np.int8]
    purchase: NDArray[np.int8]
    lengths: Ints

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, size: int, order: Ints | None = None) -> Iterator[Part]:
        """The examples in pieces of `size`, each cut to the length of its longest path.

        Args:
            size: Examples per batch; the last one may be smaller.
            order: Indexes in the order wanted; None for the order of the corpus.
        """
        for start in range(0, len(self), size):
            chosen: Ints | slice = slice(start, start + size)
            if order is not None:
                chosen = order[chosen]
            lengths = self.lengths[chosen]
            steps = int(lengths.max())
            yield Part(
                self.paths[chosen, :, :steps],
                self.next_action[chosen, :steps],
                self.purchase[chosen, :steps],
                lengths,
            )

    def last_labels(self) -> tuple[Ints, Ints]:
        """Labels of the last step of each path: next action and purchase, shape (examples,)."""
        rows = np.arange(len(self))
        last = self.lengths - 1
        return (
            self.next_action[rows, last].astype(np.int64),
            self.purchase[rows, last].astype(np.int64),
        )


def collect(examples: Iterable[Example], steps: int) -> tuple[Part, Part, Part]:
    """All examples in memory, as the parts train, valid and test.

    Raises:
        UsageError: A part has no examples.
    """
    paths = [array("q") for _ in PARTS]
    actions = [array("b") for _ in PARTS]
    purchases = [array("b") for _ in PARTS]
    for part, path, next_action, purchase in examples:
        paths[part].extend(path)
        actions[part].extend(next_action)
        purchases[part].extend(purchase)
    for name, flat in zip(PARTS, paths, strict=True):
        if not flat:
            raise UsageError(f"the corpus is too short: its {name} part has no examples")
    train, valid, test = (
        _part(*flat, steps) for flat in zip(paths, actions, purchases, strict=True)
    )
    return train, valid, test


def _part(paths: array[int], actions: array[int], purchases: array[int], steps: int) -> Part:
    shaped = np.frombuffer(paths, np.int64).reshape(-1, FEATURES, steps)
    return Part(
        shaped,
        np.frombuffer(actions, np.int8).reshape(-1, steps),
        np.frombuffer(purchases, np.int8).reshape(-1, steps),
        (shaped[:, 0] != 0).sum(axis=1),
    )


def known(part: Part) -> tuple[int, int]:
    """How many labels a part has: next actions, purchases."""
    return int((part.next_action != 0).sum()), int((part.purchase != UNKNOWN).sum())
