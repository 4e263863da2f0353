"""Smaller models that say about the same, and the gate that they have to pass."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Final

import torch

from clickpath.errors import FatalError
from training.dataset import Dataset
from training.lookup import Vocabulary
from training.model import PathModel
from training.train import Progress, TrainConfig, train

#: The largest share of a figure that a head may lose.
MOST_LOST: Final = 0.02

#: What is looked at, where a head has it, and whether more of it is better.
_FIGURES: Final = {"log_loss": False, "auc": True, "hr@10": True, "ndcg@10": True}

Figures = dict[str, dict[str, float]]


def student_of(
    teacher: PathModel, width: int, dataset: Dataset, loop: TrainConfig, progress: Progress
) -> PathModel:
    """A narrower model that learns from what another one says, and from the labels.

    Args:
        teacher: The model; heads, vocabulary, layers and attention are kept.
        width: Of the student; its feed-forward part is twice as wide.
        dataset: What the teacher was trained on.
        loop: How.
        progress: See `train`.
    """
    config = replace(
        teacher.config,
        width=width,
        hidden=2 * width,
        # Less to regularise: what it learns from is smooth already.
        dropout=teacher.config.dropout / 2,
    )
    torch.manual_seed(loop.seed)
    student = PathModel(config, vocabulary_in(teacher))
    parts = dataset.part("train"), dataset.part("valid")
    return train(student, *parts, loop, progress, teacher=teacher).model


def vocabulary_in(model: PathModel) -> Vocabulary:
    """The tokens that a model knows."""
    lookups = model.embed.items, model.embed.categories
    return Vocabulary(*(lookup.tokens[1:].numpy() for lookup in lookups))


def check_lost(before: Figures, after: Figures, most: float = MOST_LOST) -> None:
    """Checks that no head of a smaller model is much worse.

    Args:
        before: By head, figures of the model as it was trained.
        after: Those of the smaller one, on the same paths.
        most: The largest share of a figure that may be lost.

    Raises:
        FatalError: Some head loses more.
    """
    for head, figures in after.items():
        for name, more_is_better in _FIGURES.items():
            if name not in figures:
                continue
            old, new = before[head][name], figures[name]
            lost = _lost(old, new, more_is_better=more_is_better)
            # Written so that NaN fails it too.
            if not lost <= most:
                raise FatalError(
                    f"head {head} loses {100 * lost:.1f} % of its {name}, from {old:.4f} to "
                    f"{new:.4f}; at most {100 * most:g} % is allowed, nothing was exported"
                )


def _lost(old: float, new: float, *, more_is_better: bool) -> float:
    """The share of a figure that is lost; of one that was nothing, all or none."""
    worse = old - new if more_is_better else new - old
    if old == 0:
        return 0.0 if worse <= 0 else inf
    return worse / old


def bytes_of(directory: Path) -> int:
    """Size of the graphs in a directory."""
    return sum(file.stat().st_size for file in directory.glob("*.onnx"))
