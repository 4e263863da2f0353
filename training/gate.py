"""The gate: whether a candidate is good enough to take the champion's place.

Both are measured on the same paths, later than all that either has been trained on. The candidate
has to be better in one figure, by a margin and for sure (`training.paired`), and worse in none of
the guards:

    heads        the log loss of each head, or the hits among the first ten where it names tokens
    calibration  the expected calibration error of each head
    forgetting   of a LoRA refresh: what each head keeps of its score on the days before
    latency      the time of its graph for a batch
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Final

from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from serving.graph import Graph
from serving.promotion import Gain
from training.dataset import Part
from training.labels import HEAD
from training.paired import improvement

Figures = Mapping[str, Mapping[str, float]]

_BATCH: Final = 64
_ROUNDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What the gate asks for.

    Attributes:
        metric: In what the candidate has to be better, as head.figure.
        margin: By how much, in the figure's own unit: the lower bound of the gain has to reach it.
        confidence: Of the bounds, between 0 and 1; at 0.95 one equal candidate in forty would look
            better than by 0.
        head_pct: By how many percent the figure of a head may be worse.
        calibration: By how much a head's calibration error may be greater.
        kept_pct: The least percentage of its score on the days before that a head keeps.
        latency_pct: By how many percent its graph may take longer.
    """

    metric: str = "next_action.log_loss"
    margin: float = 0.001
    confidence: float = 0.95
    head_pct: float = 1.0
    calibration: float = 0.02
    kept_pct: float = 99.0
    latency_pct: float = 25.0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UsageError(f"the confidence is {self.confidence:g}, must be between 0 and 1")

    def record(self) -> dict[str, float | str]:
        """By name, for the record."""
        return asdict(self)


def reasons_against(
    thresholds: Thresholds,
    champion: Figures,
    candidate: Figures,
    gain: Gain | None,
    latency_ms: Mapping[str, float],
    kept: tuple[Figures, Figures] | None = None,
) -> list[str]:
    """What speaks against a candidate, a sentence each; nothing if it passes.

    Args:
        thresholds: What is asked for.
        champion: Its figures by head, on the hold-out.
        candidate: The same.
        gain: Of the candidate in the metric; None where it has no such figure.
        latency_ms: Time of a batch, by "champion" and "candidate".
        kept: Figures on the days before, of the champion and of the candidate, if looked at.

    Raises:
        UsageError: The champion has no such metric.
    """
    reasons = _not_better(thresholds, champion, gain)
    for head, figures in champion.items():
        theirs = candidate.get(head)
        if theirs is None:
            reasons.append(f"it has no head {head}")
            continue
        name = "log_loss" if "log_loss" in figures else "hr@10"
        worse = improvement(name, theirs[name], figures[name]) / max(figures[name], 1e-9) * 100
        if not worse <= thresholds.head_pct:
            reasons.append(
                f"{head}.{name} is {theirs[name]:.4f}, the champion's {figures[name]:.4f}; "
                f"{thresholds.head_pct:g} % worse is allowed"
            )
        if not theirs["ece"] - figures["ece"] <= thresholds.calibration:
            reasons.append(
                f"{head}.ece is {theirs['ece']:.4f}, the champion's {figures['ece']:.4f}; "
                f"{thresholds.calibration:g} more is allowed"
            )
    if kept is not None:
        reasons += forgotten(*kept, thresholds.kept_pct)
    slower = (latency_ms["candidate"] / latency_ms["champion"] - 1) * 100
    if slower > thresholds.latency_pct:
        reasons.append(
            f"its graph takes {latency_ms['candidate']:.2f} ms for a batch, {slower:.0f} % more "
            f"than the champion's; {thresholds.latency_pct:g} % are allowed"
        )
    return reasons


def check_metric(metric: str, champion: Figures) -> None:
    """Checks that the champion has the figure in which a candidate has to be better.

    Raises:
        UsageError: It has no such figure.
    """
    there = [f"{head}.{name}" for head, of in champion.items() for name in of if name != "n"]
    if metric not in there:
        raise UsageError(f"there is no figure {metric!r}, there are {', '.join(there)}")


def _not_better(thresholds: Thresholds, champion: Figures, gain: Gain | None) -> list[str]:
    metric, asked = thresholds.metric, f"{thresholds.margin:g} better is asked for"
    check_metric(metric, champion)
    head, _, figure = metric.partition(".")
    before = champion[head][figure]
    if gain is None or gain.by is None:
        return [f"{metric} is not known of it, the champion's is {before:.4f}; {asked}"]
    if gain.bounds is None:
        return [
            f"{metric} is better by {gain.by:.4f} than the champion's {before:.4f}, but "
            f"{gain.users} users are too few to be sure; {asked}"
        ]
    low, high = gain.bounds
    # Written so that NaN fails it too.
    if low >= thresholds.margin:
        return []
    return [
        f"{metric} is better by {gain.by:.4f} than the champion's {before:.4f}, at "
        f"{100 * gain.confidence:g} % between {low:.4f} and {high:.4f}; {asked}, for sure"
    ]


def forgotten(before: Figures, after: Figures, least_pct: float) -> list[str]:
    """The heads that lose too much of their score - area under the curve, or hits in ten."""
    reasons = []
    for head, figures in after.items():
        name = "auc" if "auc" in figures else "hr@10"
        now, then = figures[name], before[head][name]
        # Where there was nothing to forget all is kept, and more; NaN stays what it is.
        kept_pct = 100 * (now / then if then else 1 + now)
        if not kept_pct >= least_pct:
            reasons.append(
                f"head {head} keeps {kept_pct:.1f} % of its {name} on the days before, at least "
                f"{least_pct:g} % are needed"
            )
    return reasons


def latency_ms(champion: Path, candidate: Path, encoder: Encoder, part: Part) -> dict[str, float]:
    """The least time of a batch of 64 paths on one thread, of both graphs in turn.

    Args:
        champion: Directory of the one.
        candidate: Of the other.
        encoder: Of the paths.
        part: Where the paths come from.
    """
    [*_, batch] = [*part.batches(_BATCH, 0)][:1]
    graphs = {"champion": Graph(champion, encoder), "candidate": Graph(candidate, encoder)}
    least_s = dict.fromkeys(graphs, float("inf"))
    for _ in range(_ROUNDS):
        for name, graph in graphs.items():
            begun_s = perf_counter()
            graph.run(batch.paths)
            least_s[name] = min(least_s[name], perf_counter() - begun_s)
    return {name: round(1_000 * seconds, 3) for name, seconds in least_s.items()}


def finite(figures: Figures) -> dict[str, dict[str, float | None]]:
    """The figures as JSON has them: one that the labels do not allow is null."""
    return {
        head: {name: round(of, 6) if isfinite(of) else None for name, of in named.items()}
        for head, named in figures.items()
        if head in HEAD
    }
