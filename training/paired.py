"""By how much one model is better than another on the same rows, and how sure that is.

A bootstrap over users, paired: users are drawn with replacement, as many as there are, and both
models are measured on the rows of those who were drawn. What one user does is not independent of
what she did before, so rows are no sample; and what makes a user hard to foretell is hard for both
models, so the difference varies far less than either figure. (Efron, Tibshirani: "An introduction
to the bootstrap", 1993, chapter 13: percentile intervals.)
"""

from __future__ import annotations

from typing import Final

import numpy as np

from serving.promotion import Gain
from training.metrics import Answers, Floats, Ints
from training.said import Asked, Said, answers_of

#: Figures of which less is better; of all others more is.
_LESS: Final = frozenset({"log_loss", "ece"})

#: Draws of users: of a mean they cost a sum each, of a curve or a calibration a pass over the rows.
_DRAWS: Final = 1_000
_COSTLY_DRAWS: Final = 200
_SEED: Final = 1

#: More users than these are drawn in as many groups: sums of users vary as the users do, and the
#: cost of a draw stays what it is.
_MOST_GROUPS: Final = 10_000

#: An interval from fewer users than these would be too narrow.
LEAST_USERS: Final = 30


def improvement(figure: str, before: float, after: float) -> float:
    """By how much a figure got better, in its own unit."""
    return _sign(figure) * (after - before)


def _sign(figure: str) -> int:
    return -1 if figure in _LESS else 1


def gain(
    metric: str, asked: Asked, champion: Said, candidate: Said, confidence: float
) -> Gain | None:
    """By how much a candidate is better, and between what bounds that lies.

    Args:
        metric: As head.figure.
        asked: The labels of n rows, and whose they are.
        champion: What it says of them; only the head of the metric is looked at.
        candidate: The same.
        confidence: Share of the draws that lie within the bounds, between 0 and 1.

    Returns:
        None where one of them has no such head, or no label of it is known.
    """
    head = metric.partition(".")[0]
    if head not in champion or head not in candidate:
        return None
    rows = asked.known(head)
    if not rows.any():
        return None
    both = answers_of(head, asked, champion, rows), answers_of(head, asked, candidate, rows)
    return gain_between(metric, both, asked.users[rows], confidence)


def gain_between(
    metric: str, both: tuple[Answers, Answers], users: Ints, confidence: float
) -> Gain:
    """`gain`, of answers that are ready to be measured.

    Args:
        metric: As head.figure.
        both: Of the champion and of the candidate, n rows each.
        users: Shape (n,), whose they are.
        confidence: See `gain`.
    """
    figure = metric.rpartition(".")[2]
    _, user = np.unique(users, return_inverse=True)
    count = int(user.max()) + 1
    rng, group = np.random.default_rng(_SEED), user % _MOST_GROUPS
    if figure in both[0].means:
        values = [float(answers.means[figure].mean()) for answers in both]
        drawn = _of_means(figure, both, group, rng)
    else:
        values = [answers.figures()[figure] for answers in both]
        drawn = _of_weights(figure, both, group, rng)
    whole = improvement(figure, *values)
    known = drawn[np.isfinite(drawn)]
    bounds: tuple[float, float] | None = None
    if count >= LEAST_USERS and 2 * len(known) >= len(drawn):
        outside = (1 - confidence) / 2
        low, high = np.quantile(known, (outside, 1 - outside)).tolist()
        bounds = low, high
    return Gain(
        metric=metric,
        by=whole if np.isfinite(whole) else None,
        bounds=bounds,
        confidence=confidence,
        users=count,
        rows=len(user),
        draws=len(drawn),
    )


def _of_means(
    figure: str, both: tuple[Answers, Answers], user: Ints, rng: np.random.Generator
) -> Floats:
    """Of a figure that is a mean over the rows: sums by user say all of it."""
    champion, candidate = (answers.means[figure] for answers in both)
    rows = np.bincount(user).astype(np.float64)
    better = np.bincount(user, _sign(figure) * (candidate - champion))
    drawn = np.empty(_DRAWS)
    for n in range(_DRAWS):
        often = _drawn_users(len(rows), rng)
        drawn[n] = often @ better / (often @ rows)
    return drawn


def _of_weights(
    figure: str, both: tuple[Answers, Answers], user: Ints, rng: np.random.Generator
) -> Floats:
    """Of any other figure: both models measured anew, each row as often as its user was drawn."""
    count = int(user.max()) + 1
    drawn = np.empty(_COSTLY_DRAWS)
    for n in range(_COSTLY_DRAWS):
        weights = _drawn_users(count, rng)[user]
        before, after = (answers.figures(weights)[figure] for answers in both)
        drawn[n] = improvement(figure, before, after)
    return drawn


def _drawn_users(count: int, rng: np.random.Generator) -> Floats:
    """How often each user is drawn, shape (count,)."""
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
