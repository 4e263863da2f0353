"""The figures of a model on a part that it has not seen, beside those of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Final

from pydantic import JsonValue

from training.dataset import Part
from training.labels import HEADS
from training.metrics import Answers, intervals, yes_or_no
from training.said import Asked, Said, answers_of

#: Every head has all of these; what does not apply to it, or cannot be told from its labels, is
#: null.
FIGURES: Final = (
    *("ndcg@5", "ndcg@10", "ndcg@20", "hr@1", "hr@5", "hr@10", "hr@20", "mrr"),
    *("accuracy", "macro_f1", "auc", "pr_auc", "log_loss", "ece"),
)

#: The clicks of a session after which the chance of a purchase is looked at.
CLICKS: Final = (1, 3, 5, 10)

#: Draws of users behind an interval, and their seed.
DRAWS: Final = 200
_SEED: Final = 1

_DIGITS: Final = 5

Record = dict[str, JsonValue]


def evaluated(
    asked: Asked,
    said: Said,
    baselines: Mapping[str, Said],
    draws: int = DRAWS,
    tell: Callable[[str], None] = lambda _: None,
) -> Record:
    """The figures of all heads that were asked and have labels.

    Args:
        asked: The labels.
        said: What the model says.
        baselines: What they say, by name.
        draws: Behind the intervals.
        tell: Takes the name of each head before it is measured.

    Returns:
        `heads`, by name, and `purchase_auc_by_click` with `purchase_auc_by_click_ci`.
    """
    heads: Record = {}
    for head in HEADS:
        rows = asked.known(head.name)
        if head.name not in said or not rows.any():
            continue
        tell(head.name)
        answers = answers_of(head.name, asked, said, rows)
        ends = intervals(answers, asked.users[rows], draws, _SEED)
        heads[head.name] = {
            **_record(answers),
            "ci": {name: _ends(ends[name]) for name in FIGURES if name in ends},
            "baselines": {
                name: _record(answers_of(head.name, asked, of, rows))
                for name, of in baselines.items()
                if head.name in of
            },
        }
    return {"heads": heads, **_by_click(asked, said, draws)}


def _by_click(asked: Asked, said: Said, draws: int) -> Record:
    """ROC AUC of the purchase head after the k-th click of a session, and its interval."""
    areas: Record = {}
    bounds: Record = {}
    for click in CLICKS:
        rows = asked.known("purchase") & (asked.clicks == click)
        if "purchase" not in said or not rows.any():
            areas[str(click)], bounds[str(click)] = None, None
            continue
        answers = yes_or_no(
            asked.labels["purchase"][rows] == 1, said["purchase"][rows].astype(float)
        )
        areas[str(click)] = _plain(answers.figures()["auc"])
        bounds[str(click)] = _ends(intervals(answers, asked.users[rows], draws, _SEED)["auc"])
    return {"purchase_auc_by_click": areas, "purchase_auc_by_click_ci": bounds}


def _record(answers: Answers) -> Record:
    figures = answers.figures()
    record: Record = {name: _plain(figures.get(name, float("nan"))) for name in FIGURES}
    if "rate" in figures:
        record["rate"] = _plain(figures["rate"])
    record["n"] = len(answers)
    return record


def _plain(value: float) -> float | None:
    """A figure as JSON has it, which knows no NaN."""
    return round(value, _DIGITS) if isfinite(value) else None


def _ends(ends: tuple[float, float]) -> list[JsonValue]:
    return [_plain(end) for end in ends]


def baselines_said(
    parts: tuple[Part, Part, Part], seed: int, tell: Callable[[str], None]
) -> dict[str, Said]:
    """What all baselines say of the test part, after being fitted on the other two."""
    from training.baselines import fit_all

    train_part, valid_part, test_part = parts
    fitted = fit_all(train_part, valid_part, seed, tell)
    return {name: baseline.predict(test_part) for name, baseline in fitted.items()}
