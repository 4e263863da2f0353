"""What a training part can teach: the heads it has labels for, and the tokens it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from clickpath.encoding import FEATURE_NAMES
from training.dataset import Part
from training.form import ModelConfig
from training.labels import HEAD, UNKNOWN
from training.lookup import Ints, Vocabulary, most_frequent

_BATCH = 1024


def teachable(part: Part, wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of some heads that a part has labels for, of both kinds where they are yes or no."""
    yes = dict.fromkeys(HEAD, 0)
    for batch in part.batches(_BATCH):
        for name, labels in batch.labels.items():
            yes[name] += int((labels > 0).sum())
    return tuple(
        name
        for name in wanted
        if yes[name] and (HEAD[name].unknown != UNKNOWN or yes[name] < part.known[name])
    )


def vocabulary_of(part: Part, config: ModelConfig) -> Vocabulary:
    """The most frequent tokens of a part's paths, as many as a model has rows for."""

    def hashes(feature: str) -> Iterator[Ints]:
        place = FEATURE_NAMES.index(feature)
        return (np.ravel(batch.paths[:, place]) for batch in part.batches(_BATCH))

    return Vocabulary(
        most_frequent(hashes("item"), config.items),
        most_frequent(hashes("category"), config.categories),
    )
