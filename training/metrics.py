"""What a head is measured by: log loss, accuracy, area under the ROC curve. Numpy only."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Probabilities are kept this far from 0 and 1 before a logarithm is taken.
_FLOOR: Final = 1e-7


def auc(positive: NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve; ties count half. NaN when only one class is there.

    The Mann-Whitney statistic: the probability that a positive scores above a negative.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean_rank = last - (count - 1) / 2
    ranks = float(mean_rank[place][positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def binary(positive: NDArray[np.bool_], probability: Floats) -> dict[str, float]:
    """Log loss (nats) and AUC of a yes-or-no head.

    Args:
        positive: Shape (n,), what happened.
        probability: Shape (n,), what was said.
    """
    kept = np.clip(probability, _FLOOR, 1 - _FLOOR)
    loss = -np.where(positive, np.log(kept), np.log1p(-kept)).mean()
    return {
        "auc": auc(positive, probability),
        "log_loss": float(loss),
        "rate": float(positive.mean()),
        "n": len(positive),
    }


def multiclass(label: Ints, probability: Floats) -> dict[str, float]:
    """Log loss (nats), accuracy and macro one-versus-rest AUC of a head with many classes.

    Args:
        label: Shape (n,), the class that came.
        probability: Shape (n, classes), what was said.
    """
    given = np.clip(probability[np.arange(len(label)), label], _FLOOR, 1.0)
    each = [auc(label == c, probability[:, c]) for c in np.unique(label)]
    return {
        "log_loss": float(-np.log(given).mean()),
        "accuracy": float((probability.argmax(axis=1) == label).mean()),
        "macro_auc": float(np.nanmean(each)) if len(each) > 1 else float("nan"),
        "n": len(label),
    }
