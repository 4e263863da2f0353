"""A shard: the examples of one file, as arrays without padding.

All steps of all paths lie behind one another, so that a short path costs no more than it has
steps. Features and labels with few values take a byte, hashes take eight.
"""

from __future__ import annotations

import zipfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clickpath.encoding import FEATURE_NAMES, FEATURES
from clickpath.errors import UsageError
from training.examples import Example
from training.labels import HEAD, HEADS

Ints = NDArray[np.int64]

#: An array of labels: int8 for actions and yes or no, int64 for hashes.
LabelArray = NDArray[np.int8] | NDArray[np.int64]

#: Most examples in one shard.
SHARD_EXAMPLES: Final = 2048

_HASHES: Final = ("item", "category")
_CODE: Final = {
    **{f"feature.{name}": "q" if name in _HASHES else "b" for name in FEATURE_NAMES},
    **{f"label.{head.name}": "q" if head.kind == "token" else "b" for head in HEADS},
}
_ROWS: Final = ("lengths", "users", "ts_ms")


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples, padded to the longest path among them.

    Attributes:
        paths: Shape (n, FEATURES, T); padding, zeros, at the end.
        labels: By name of the head, for every head, shape (n, T); unknown where not known.
        lengths: Shape (n,): how many real steps each path has.
        users: Shape (n,): hash of the user.
        ts_ms: Shape (n,): time of the last step.
    """

    paths: Ints
    labels: Mapping[str, LabelArray]
    lengths: Ints
    users: Ints
    ts_ms: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def last_labels(self) -> dict[str, Ints]:
        """The labels of the last step of each path, by head, shape (n,)."""
        rows, last = np.arange(len(self)), self.lengths - 1
        return {name: of[rows, last].astype(np.int64) for name, of in self.labels.items()}


@dataclass(frozen=True, slots=True)
class Shard:
    """Examples without padding.

    Attributes:
        steps: By the name of a column (`feature.action`, `label.purchase`), one value a step.
        lengths: Shape (n,): steps of each path, at least 1.
        users: Shape (n,): hash of the user.
        ts_ms: Shape (n,): time of the last step.
    """

    steps: Mapping[str, LabelArray]
    lengths: Ints
    users: Ints
    ts_ms: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Ints | slice) -> Batch:
        """The examples of some rows, in their order."""
        lengths = self.lengths[rows]
        starts = (np.cumsum(self.lengths) - self.lengths)[rows]
        longest = int(lengths.max(initial=1))
        time = np.arange(longest)
        real = time < lengths[:, None]  # (n, T)
        place = (starts[:, None] + time)[real]
        paths = np.zeros((len(lengths), FEATURES, longest), np.int64)
        for number, name in enumerate(FEATURE_NAMES):
            paths[:, number][real] = self.steps[f"feature.{name}"][place]
        labels: dict[str, LabelArray] = {}
        for head in HEADS:
            flat = self.steps[f"label.{head.name}"]
            labels[head.name] = padded = np.full(real.shape, head.unknown, flat.dtype)
            padded[real] = flat[place]
        return Batch(paths, labels, lengths, self.users[rows], self.ts_ms[rows])

    def last_labels(self) -> dict[str, Ints]:
        """The labels of the last step of each path, by head, shape (n,)."""
        last = np.cumsum(self.lengths) - 1
        return {
            head.name: self.steps[f"label.{head.name}"][last].astype(np.int64) for head in HEADS
        }

    def known(self) -> dict[str, int]:
        """How many labels are known, by head."""
        return {
            name: int((self.steps[f"label.{name}"] != head.unknown).sum())
            for name, head in HEAD.items()
        }

    def save(self, path: Path) -> None:
        """Writes it as an uncompressed `.npz`; equal shards have equal bytes."""
        rows = {name: getattr(self, name) for name in _ROWS}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **self.steps, **rows)


def load_shard(path: Path) -> Shard:
    """The shard in a file.

    Raises:
        UsageError: The file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            steps = {name: stored[name] for name in _CODE}
            lengths, users, ts_ms = (stored[name] for name in _ROWS)
            return Shard(steps, lengths, users, ts_ms)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as a shard of examples: {error}") from error


def joined(shards: Sequence[Shard]) -> Shard:
    """The examples of several shards, one after the other."""
    if len(shards) < 2:
        return shards[0] if shards else Collected().shard()
    return Shard(
        {name: np.concatenate([shard.steps[name] for shard in shards]) for name in _CODE},
        *(np.concatenate([getattr(shard, name) for shard in shards]) for name in _ROWS),
    )


def shard_of(batch: Batch) -> Shard:
    """The same examples without their padding."""
    real = np.arange(batch.paths.shape[2]) < batch.lengths[:, None]
    steps: dict[str, LabelArray] = {}
    for number, name in enumerate(FEATURE_NAMES):
        column = f"feature.{name}"
        steps[column] = _typed(batch.paths[:, number][real], column)
    for head in HEADS:
        column = f"label.{head.name}"
        steps[column] = _typed(batch.labels[head.name][real], column)
    return Shard(steps, batch.lengths, batch.users, batch.ts_ms)


class Collected:
    """Examples that are being collected for a shard."""

    def __init__(self) -> None:
        self._steps = {name: array(code) for name, code in _CODE.items()}
        self._rows = {name: array("q") for name in _ROWS}

    def __len__(self) -> int:
        return len(self._rows["lengths"])

    def add(self, example: Example) -> None:
        """Adds one example."""
        length = len(example.labels)
        width = len(example.path) // FEATURES
        for number, name in enumerate(FEATURE_NAMES):
            values = example.path[number * width : number * width + length]
            self._steps[f"feature.{name}"].extend(values.tolist())
        for head, values_of_head in zip(HEADS, zip(*example.labels, strict=True), strict=True):
            self._steps[f"label.{head.name}"].extend(values_of_head)
        self._rows["lengths"].append(length)
        self._rows["users"].append(example.user)
        self._rows["ts_ms"].append(example.last.ts_ms)

    def shard(self) -> Shard:
        """What has been collected."""
        return Shard(
            {name: _typed(np.array(of), name) for name, of in self._steps.items()},
            *(np.array(self._rows[name], np.int64) for name in _ROWS),
        )


def _typed(values: NDArray[Any], column: str) -> LabelArray:
    return values.astype(np.int64) if _CODE[column] == "q" else values.astype(np.int8)
