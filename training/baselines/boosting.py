"""LightGBM on a summary of the path, for actions and for yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np

from clickpath.vocabulary import ACTION_COUNT
from training.baselines.summary import summaries
from training.dataset import Ints, Part
from training.labels import HEAD, HEADS
from training.metrics import Floats
from training.said import Said, joined

_BATCH: Final = 512

#: Most steps that trees are grown on, drawn from all batches alike.
_MOST_ROWS: Final = 40_000

#: Classes that came less often are left out: trees cannot learn them, and they cost as much.
_FEWEST: Final = 20

_ROUNDS: Final = 80
_PATIENCE: Final = 10
PARAMETERS: Final = {
    "learning_rate": 0.15,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.6,
    "lambda_l2": 10.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trees by head.

    Attributes:
        trees: By head.
        classes: By head, those that its trees tell apart.
        rates: Share of each action among all, for the classes that no tree knows.
    """

    trees: dict[str, Any]
    classes: dict[str, Ints]
    rates: Floats

    def predict(self, part: Part) -> Said:
        """What it says after the last step of each path, by head."""
        pieces = []
        for batch in part.batches(_BATCH):
            rows = np.arange(len(batch))
            x = summaries(batch.paths)[rows, batch.lengths - 1]
            said = {}
            for head, trees in self.trees.items():
                probability = np.asarray(trees.predict(x))
                if HEAD[head].kind == "action":
                    every = np.tile(self.rates, (len(batch), 1))
                    every[:, self.classes[head]] = 0.0
                    every[:, self.classes[head]] = probability * (1 - every.sum(1, keepdims=True))
                    probability = every
                said[head] = probability
            pieces.append(said)
        return joined(pieces)


def boosted(train_part: Part, valid_part: Part, seed: int) -> Boosted:
    """Grows trees for each head that has labels, until the validation loss no longer falls."""
    heads = [head.name for head in HEADS if head.kind != "token" and train_part.has(head.name)]
    share = min(1.0, _MOST_ROWS / max(train_part.known["next_action"], 1))
    drawn = _rows(train_part, share, seed)
    checked = _rows(valid_part, 1.0, seed)
    trees, classes = {}, {}
    for head in heads:
        found = _grown(head, drawn, checked, seed)
        if found is not None:
            trees[head], classes[head] = found
    often = np.bincount(drawn[1]["next_action"], minlength=ACTION_COUNT).astype(np.float64)
    often[0] = 0.0  # no action is no class
    often[1:] += 1.0
    return Boosted(trees, classes, often / often.sum())


def _rows(part: Part, share: float, seed: int) -> tuple[Floats, dict[str, Ints]]:
    """Summaries and labels of a share of the steps that have any label."""
    rng = np.random.default_rng(seed)
    xs, labels = [], []
    for batch in part.batches(_BATCH):
        some = np.zeros(batch.paths[:, 0].shape, bool)
        for head in HEADS:
            some |= batch.labels[head.name] != head.unknown
        some &= rng.random(some.shape) < share
        xs.append(summaries(batch.paths)[some])
        labels.append({name: of[some].astype(np.int64) for name, of in batch.labels.items()})
    every = {name: np.concatenate([of[name] for of in labels]) for name in HEAD}
    return np.concatenate(xs), every


def _grown(
    head: str,
    drawn: tuple[Floats, dict[str, Ints]],
    checked: tuple[Floats, dict[str, Ints]],
    seed: int,
) -> tuple[Any, Ints] | None:
    """The trees of a head and its classes; None where there is too little to learn from."""
    (x, labels), (valid_x, valid_labels) = drawn, checked
    label, valid_label = labels[head], valid_labels[head]
    known, valid_known = label != HEAD[head].unknown, valid_label != HEAD[head].unknown
    classes, often = np.unique(label[known], return_counts=True)
    classes = classes[often >= _FEWEST]
    known &= np.isin(label, classes)
    valid_known &= np.isin(valid_label, classes)
    if len(classes) < 2 or not valid_known.any():
        return None
    binary = HEAD[head].kind == "binary"
    objective: dict[str, str | int] = {"objective": "binary"}
    if not binary:
        objective = {"objective": "multiclass", "num_class": len(classes)}
    data = lightgbm.Dataset(x[known], np.searchsorted(classes, label[known]))
    valid = lightgbm.Dataset(
        valid_x[valid_known], np.searchsorted(classes, valid_label[valid_known]), reference=data
    )
    trees = lightgbm.train(
        {**PARAMETERS, **objective, "seed": seed},
        data,
        _ROUNDS,
        valid_sets=[valid],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    return trees, classes
