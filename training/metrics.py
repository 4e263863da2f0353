"""What a head is measured by: figures of its answers, for any weights of the rows. Numpy only.

Everything that does not depend on the weights (the order of the scores, the rank of each label, the
bins) is worked out once, so that a bootstrap over users, which is nothing but other weights, costs
a few sums a time.

Definitions

auc       Area under the ROC curve; ties count half. With many classes: one against the rest, mean
          over the classes that occur (macro).
pr_auc    Average precision: precision at each threshold, weighted by the recall that it adds; ties
          are one threshold. With many classes as `auc`.
log_loss  Mean of -ln of the probability of what came, in nats.
ece       Expected calibration error in `BINS` bins of equal width (Guo et al., "On calibration of
          modern neural networks", 2017): of the probability of yes, or of the likeliest class.
hr@k      Share of the rows whose label is among the k likeliest.
ndcg@k    1 / log2(1 + rank), 0 beyond rank k: there is one right answer.
mrr       1 / rank. A tie never helps: equals count as better than the label.
macro_f1  F1, mean over the classes that occur or are said; of the likeliest class, of yes at 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Probabilities are kept this far from 0 and 1 before a logarithm is taken.
FLOOR: Final = 1e-7

#: Bins of the expected calibration error.
BINS: Final = 15

#: The depths at which lists are looked at.
DEPTHS: Final = (1, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Curve:
    """Scores in falling order, for the areas under the ROC and the precision-recall curve.

    Attributes:
        order: Rows by falling score.
        positive: Shape (n,), of the rows in that order.
        ends: Where each run of equal scores ends (exclusive), in that order.
    """

    order: Ints
    positive: Bools
    ends: Ints

    @staticmethod
    def of(positive: Bools, score: Floats) -> Curve:
        """The curve of a yes-or-no outcome, shape (n,), n > 0, by its score."""
        order = np.argsort(-score, kind="stable")
        ordered = score[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(order))
        return Curve(order, positive[order], ends)

    def counts(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """True and false positives at each threshold, from the strictest one on."""
        if weights is None:
            yes = np.cumsum(self.positive, dtype=np.float64)
            return yes[self.ends - 1], self.ends - yes[self.ends - 1]
        each = weights[self.order]
        everything = np.cumsum(each)[self.ends - 1]
        true = np.cumsum(each * self.positive)[self.ends - 1]
        return true, everything - true

    def areas(self, weights: Floats | None = None) -> tuple[float, float]:
        """ROC AUC and average precision; NaN when only one class has any weight."""
        true, false = self.counts(weights)
        yes, no = true[-1], false[-1]
        if not yes > 0 or not no > 0:
            return float("nan"), float("nan")
        more_true, more_false = np.diff(true, prepend=0.0), np.diff(false, prepend=0.0)
        above = true - more_true / 2  # positives above, and half of those beside
        area = float((above * more_false).sum() / (yes * no))
        said = true + false
        precision = np.divide(true, said, out=np.zeros_like(true), where=said > 0)
        return area, float((more_true * precision).sum() / yes)


@dataclass(frozen=True, slots=True)
class Certainty:
    """How sure the answers were, and how often they were right, by bin.

    Attributes:
        bins: Shape (n,), from 0 to BINS - 1.
        said: Shape (n,), the probability that was said.
        came: Shape (n,), 1.0 where it came so.
    """

    bins: Ints
    said: Floats
    came: Floats

    @staticmethod
    def of(said: Floats, came: Bools) -> Certainty:
        """Bins of equal width; the edge between two belongs to the lower one."""
        bins = np.clip(np.ceil(said * BINS).astype(np.int64) - 1, 0, BINS - 1)
        return Certainty(bins, said, came.astype(np.float64))

    def error(self, weights: Floats | None = None) -> float:
        """The expected calibration error."""
        each = np.ones(len(self.said)) if weights is None else weights
        gaps = np.bincount(self.bins, each * (self.said - self.came), BINS)
        return float(np.abs(gaps).sum() / each.sum())


@dataclass(frozen=True, slots=True)
class Answers:
    """What a head said, beside what came, ready to be measured.

    Attributes:
        means: Figures that are the mean of a value of each row, each of shape (n,).
        curves: One for yes or no, one a class for classes, none for tokens.
        classes: Label and likeliest class of each row, shape (2, n); None for tokens.
        certainty: For the calibration error.
    """

    means: Mapping[str, Floats]
    curves: tuple[Curve, ...]
    classes: Ints | None
    certainty: Certainty

    def __len__(self) -> int:
        return len(self.certainty.said)

    def figures(self, weights: Floats | None = None) -> dict[str, float]:
        """All figures that apply.

        Args:
            weights: Of the rows, shape (n,), not all 0; without them each counts 1.
        """
        share = np.ones(len(self)) if weights is None else weights
        share = share / share.sum()
        figures = {name: float(values @ share) for name, values in self.means.items()}
        if self.curves:
            areas = np.array([curve.areas(weights) for curve in self.curves])
            known = areas[~np.isnan(areas[:, 0])]
            figures["auc"], figures["pr_auc"] = (
                known.mean(axis=0).tolist() if len(known) else (float("nan"),) * 2
            )
        if self.classes is not None:
            figures["macro_f1"] = _macro_f1(self.classes[0], self.classes[1], share)
        figures["ece"] = self.certainty.error(weights)
        return figures


def _macro_f1(label: Ints, said: Ints, weights: Floats) -> float:
    size = int(max(label.max(), said.max())) + 1
    came, given = np.bincount(label, weights, size), np.bincount(said, weights, size)
    right = np.bincount(label, weights * (label == said), size)
    there = came + given > 0
    return float((2 * right[there] / (came + given)[there]).mean())


def yes_or_no(positive: Bools, probability: Floats) -> Answers:
    """A yes-or-no head.

    Args:
        positive: Shape (n,), what happened.
        probability: Shape (n,), of yes, as said.
    """
    kept = np.clip(probability, FLOOR, 1 - FLOOR)
    likely = probability >= 0.5
    return Answers(
        {
            "log_loss": -np.where(positive, np.log(kept), np.log1p(-kept)),
            "accuracy": (likely == positive).astype(np.float64),
            "rate": positive.astype(np.float64),
        },
        (Curve.of(positive, probability),),
        np.stack([positive, likely]).astype(np.int64),
        Certainty.of(probability, positive),
    )


def of_classes(label: Ints, probability: Floats) -> Answers:
    """A head with a probability for each of its classes.

    Args:
        label: Shape (n,), the class that came.
        probability: Shape (n, classes), as said.
    """
    given = probability[np.arange(len(label)), label]
    likely = probability.argmax(axis=1)
    rank = (probability >= given[:, None]).sum(axis=1)
    right = likely == label
    return Answers(
        {
            "log_loss": -np.log(np.clip(given, FLOOR, 1.0)),
            **_list_figures(rank.astype(np.float64)),
            "accuracy": right.astype(np.float64),
        },
        tuple(Curve.of(label == one, probability[:, one]) for one in np.unique(label)),
        np.stack([label, likely]),
        Certainty.of(probability[np.arange(len(label)), likely], right),
    )


def of_list(label: Ints, tokens: Ints, probability: Floats) -> Answers:
    """A head that gives a list of tokens; a label that is not on it has no rank.

    Args:
        label: Shape (n,), hash of the token that came.
        tokens: Shape (n, k), hashes, best first; 0 where the list is shorter.
        probability: Shape (n, k), of each.
    """
    hit = tokens == label[:, None]
    rank = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)
    right = rank == 1
    return Answers(
        {**_list_figures(rank), "accuracy": right.astype(np.float64)},
        (),
        None,
        Certainty.of(probability[:, 0], right),
    )


def _list_figures(rank: Floats) -> dict[str, Floats]:
    """Values of each row, by the rank of its label from 1; infinite where it has none."""
    gain = 1 / np.log2(1 + rank)
    figures = {"mrr": 1 / rank}
    for depth in DEPTHS:
        figures[f"hr@{depth}"] = (rank <= depth).astype(np.float64)
        if depth > 1:
            figures[f"ndcg@{depth}"] = np.where(rank <= depth, gain, 0.0)
    return figures


def intervals(
    answers: Answers, users: Ints, times: int, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Confidence intervals by bootstrap over users: the percentiles of the figures.

    Users are drawn, not rows: what one user does is not independent of what she did before.

    Args:
        answers: Of n rows.
        users: Shape (n,), whose they are.
        times: How often users are drawn, with replacement, as many as there are.
        seed: Of the draws.
        level: Share of the draws that lie within.

    Returns:
        Lower and upper end by figure; NaN where a figure is not defined in most of the draws.
    """
    _, user = np.unique(users, return_inverse=True)
    count = int(user.max()) + 1
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(times):
        often = np.bincount(rng.integers(0, count, count), minlength=count)
        for name, value in answers.figures(often[user].astype(np.float64)).items():
            drawn.setdefault(name, []).append(value)
    outside = (1 - level) / 2
    return {name: _between(np.array(values), outside) for name, values in drawn.items()}


def _between(values: Floats, outside: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if 2 * len(known) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (outside, 1 - outside)).tolist()
    return low, high


def auc(positive: Bools, score: Floats) -> float:
    """Area under the ROC curve; ties count half. NaN when only one class is there."""
    return Curve.of(positive, score).areas()[0]


def binary(positive: Bools, probability: Floats) -> dict[str, float]:
    """The figures of a yes-or-no head: see `yes_or_no`."""
    return {**yes_or_no(positive, probability).figures(), "n": len(positive)}


def multiclass(label: Ints, probability: Floats) -> dict[str, float]:
    """The figures of a head with classes: see `of_classes`."""
    figures = of_classes(label, probability).figures()
    return {**figures, "macro_auc": figures["auc"], "n": len(label)}
