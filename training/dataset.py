"""Examples for a training loop: parts of batches, in memory or read from their files.

A part on disk is read shard by shard. In a random order the shards are taken in a random order
too, a few at a time, and the examples are shuffled among those few: memory holds a few shards,
whatever the size of the part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from training.labels import HEAD, HEADS
from training.manifest import Manifest, read_manifest
from training.shards import Batch, Ints, LabelArray, Shard, joined, load_shard, shard_of

__all__ = ["Batch", "Dataset", "Ints", "LabelArray", "Part"]

#: Shards that are shuffled among one another.
_SHUFFLED_SHARDS: Final = 4


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one part.

    Attributes:
        shards: Where they are: in memory, or files that are read when they are needed.
        sizes: Examples in each shard.
        known: Labels that are known, by head.
        left_out: Hashes of users whose examples are passed over; None for nobody.
    """

    shards: tuple[Shard | Path, ...]
    sizes: tuple[int, ...]
    known: Mapping[str, int]
    left_out: Ints | None = None

    @staticmethod
    def of(
        paths: Ints,
        labels: Mapping[str, LabelArray] | None = None,
        users: Ints | None = None,
        ts_ms: Ints | None = None,
    ) -> Part:
        """A part in memory.

        Args:
            paths: Shape (n, FEATURES, T), padding at the end.
            labels: By head, shape (n, T); what is missing is unknown.
            users: Shape (n,); without them each example has a user of its own.
            ts_ms: Shape (n,); without them all are 0.
        """
        n, _, steps = paths.shape
        given = labels or {}
        every: dict[str, LabelArray] = {
            head.name: given.get(head.name, np.full((n, steps), head.unknown, np.int64))
            for head in HEADS
        }
        lengths = (paths[:, 0] != 0).sum(axis=1)
        return Part.in_memory(
            shard_of(
                Batch(
                    paths,
                    every,
                    lengths,
                    np.arange(n) if users is None else users,
                    np.zeros(n, np.int64) if ts_ms is None else ts_ms,
                )
            )
        )

    @staticmethod
    def in_memory(shard: Shard) -> Part:
        """A part of one shard."""
        return Part((shard,), (len(shard),), shard.known())

    def __len__(self) -> int:
        return sum(self.sizes)

    def has(self, head: str) -> bool:
        """Whether any label of a head is known."""
        return self.known[head] > 0

    def users(self) -> Ints:
        """The hashes of its users, sorted, each once; reads it once."""
        none = np.zeros(0, np.int64)
        of_shards = (np.unique(_loaded(shard, self.left_out).users) for shard in self.shards)
        return np.unique(np.concatenate([none, *of_shards]))

    def without(self, users: Ints) -> Part:
        """The part without the examples of some users, by their hashes; reads it once."""
        sizes, known = [], Counter({head.name: 0 for head in HEADS})
        for shard in self.shards:
            kept = _loaded(shard, users)
            sizes.append(len(kept))
            known.update(kept.known())
        return replace(self, sizes=tuple(sizes), known=dict(known), left_out=users)

    def batches(self, size: int, seed: int | Sequence[int] | None = None) -> Iterator[Batch]:
        """The examples in pieces, each cut to the length of its longest path.

        Args:
            size: Examples per batch; only the last one may be smaller.
            seed: Of a random order; None for the order in which they are stored.
        """
        rng = None if seed is None else np.random.default_rng(seed)
        numbers = np.arange(len(self.shards))
        if rng is not None:
            rng.shuffle(numbers)
        together = 1 if rng is None else _SHUFFLED_SHARDS
        left: list[Shard] = []
        for start in range(0, len(numbers), together):
            some = (self.shards[n] for n in numbers[start : start + together])
            loaded = [_loaded(shard, self.left_out) for shard in some]
            shard = joined([*left, *loaded])
            rows = np.arange(len(shard))
            if rng is not None:
                rng.shuffle(rows)
            last = start + together >= len(numbers)
            end = len(rows) if last else len(rows) - len(rows) % size
            for first in range(0, end, size):
                yield shard.batch(rows[first : first + size])
            left = [] if end == len(rows) else [shard_of(shard.batch(rows[end:]))]

    def whole(self) -> Batch:
        """All examples at once; for parts that are known to be small."""
        return joined([_loaded(shard, self.left_out) for shard in self.shards]).batch(slice(None))

    def last_labels(self) -> dict[str, Ints]:
        """The labels of the last step of each path, by head, shape (n,), in the stored order."""
        of_shards = [_loaded(shard, self.left_out).last_labels() for shard in self.shards]
        none = np.zeros(0, np.int64)
        return {name: np.concatenate([none, *(of[name] for of in of_shards)]) for name in HEAD}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set on disk, as `training.build` leaves it.

    Attributes:
        folder: Where it is.
        manifest: What it is made of.
    """

    folder: Path
    manifest: Manifest

    @staticmethod
    def open(folder: Path) -> Dataset:
        """The data set in a folder.

        Raises:
            UsageError: There is none.
        """
        return Dataset(folder, read_manifest(folder))

    def part(self, name: str) -> Part:
        """The examples of the part "train", "valid" or "test"; they stay on disk."""
        files = self.manifest.parts[name]
        paths = tuple(self.folder / shard.name for shard in files.shards)
        return Part(paths, tuple(shard.examples for shard in files.shards), files.known)


def _loaded(shard: Shard | Path, left_out: Ints | None) -> Shard:
    found = load_shard(shard) if isinstance(shard, Path) else shard
    if left_out is None:
        return found
    return shard_of(found.batch(np.flatnonzero(~np.isin(found.users, left_out))))
