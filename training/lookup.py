"""From the hash of a token to its row in a table, inside the model's graph.

The known tokens have rows 1 to `known`. A token's row lies in one of three slots that follow from
its hash (cuckoo hashing: Pagh and Rodler, 2004), so that three gathers and a comparison find it:
nothing that torch, ONNX and TensorRT do not all know. Any other hash falls into one of the shared
rows behind, and no token at all is row 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Ints = NDArray[np.int64]

#: Moduli that differ by one have no common divisor, so the slots of a hash are independent.
_CHOICES: Final = 3

#: Slots per token; three choices fill tables up to 1 / 1.1 of them.
_ROOM: Final = 1.5
_MOST_MOVES: Final = 500


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens with a row of their own, most frequent first: hashes, all different, none 0."""

    items: Ints
    categories: Ints


class Lookup(nn.Module):
    """Hash -> row, by buffers that are saved with the weights.

    Args:
        tokens: The hashes of rows 1, 2, ...
        shared: How many rows all other hashes share.
    """

    def __init__(self, tokens: Ints, shared: int) -> None:
        super().__init__()
        assert shared > 0
        assert np.all(tokens > 0)
        self.known = len(tokens)
        self.shared = shared
        self.rows = 1 + self.known + shared
        # No hash is negative, so that row 0, to which empty slots lead, fits none.
        self.tokens = nn.Buffer(torch.from_numpy(np.concatenate([[-1], tokens])))
        slots = torch.tensor(_slots(tokens.tolist()), dtype=torch.int64)
        self.slot_row = nn.Buffer(slots[:, None], persistent=False)  # (slots, 1)
        self.slot_token = nn.Buffer(self.tokens[slots][:, None], persistent=False)
        self.moduli = nn.Buffer(len(slots) - torch.arange(_CHOICES), persistent=False)

    def forward(self, hashes: Tensor) -> Tensor:
        """Rows of hashes, of the same shape, both int64."""
        slot = hashes[..., None] % self.moduli  # (..., 3)
        row = functional.embedding(slot, self.slot_row)  # (..., 3, 1)
        fits = functional.embedding(slot, self.slot_token) == hashes[..., None, None]
        found = torch.where(fits, row, 0).amax((-2, -1))  # (...)
        other = 1 + self.known + hashes % self.shared
        return torch.where((found > 0) | (hashes == 0), found, other)


def _slots(tokens: list[int]) -> list[int]:
    """A table with the row of each token in one of its slots, 0 elsewhere."""
    size = int(_ROOM * len(tokens)) + 2 * _CHOICES
    while True:
        slots = [0] * size
        if all(_place(slots, tokens, row) for row in range(1, len(tokens) + 1)):
            return slots
        size = size * 5 // 4


def _place(slots: list[int], tokens: list[int], row: int) -> bool:
    """Puts a row into a slot of its token, moving others to another slot of theirs."""
    size = len(slots)
    came_from = -1
    for move in range(_MOST_MOVES):
        own = [tokens[row - 1] % (size - choice) for choice in range(_CHOICES)]
        free = next((slot for slot in own if not slots[slot]), None)
        if free is not None:
            slots[free] = row
            return True
        others = [slot for slot in own if slot != came_from] or own
        came_from = others[move % len(others)]
        slots[came_from], row = row, slots[came_from]
    return False


def most_frequent(counted: Iterable[Ints], most: int) -> Ints:
    """The most frequent hashes, by falling frequency and then by hash; 0 is none.

    Args:
        counted: Arrays of hashes, any number of them.
        most: How many at most.
    """
    hashes = np.zeros(0, np.int64)
    counts = np.zeros(0, np.int64)
    for array in counted:
        new, times = np.unique(array, return_counts=True)
        hashes, place = np.unique(np.concatenate([hashes, new]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times]), len(hashes)).astype(np.int64)
    counts, hashes = counts[hashes != 0], hashes[hashes != 0]
    order = np.lexsort((hashes, -counts))
    chosen: Ints = hashes[order[:most]]
    return chosen
