"""The gate: whether a candidate is good enough to take the champion's place.

Both are measured on the same paths, later than all that either has been trained on. The candidate
has to be better in one figure, by a margin, and worse in none of the guards:

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
from training.dataset import Part
from training.labels import HEAD

Figures = Mapping[str, Mapping[str, float]]

#: Figures of which less is better; of all others more is.
_LESS: Final = frozenset({"log_loss", "ece"})

_BATCH: Final = 64
_ROUNDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What the gate asks for.

    Attributes:
        metric: In what the candidate has to be better, as head.figure.
        margin: By how much, in the figure's own unit.
        head_pct: By how many percent the figure of a head may be worse.
        calibration: By how much a head's calibration error may be greater.
        kept_pct: The least percentage of its score on the days before that a head keeps.
        latency_pct: By how many percent its graph may take longer.
    """

    metric: str = "next_action.log_loss"
    margin: float = 0.001
    head_pct: float = 1.0
    calibration: float = 0.02
    kept_pct: float = 99.0
    latency_pct: float = 25.0

    def record(self) -> dict[str, float | str]:
        """By name, for the record."""
        return asdict(self)


def reasons_against(
    thresholds: Thresholds,
    champion: Figures,
    candidate: Figures,
    latency_ms: Mapping[str, float],
    kept: tuple[Figures, Figures] | None = None,
) -> list[str]:
    """What speaks against a candidate, a sentence each; nothing if it passes.

    Args:
        thresholds: What is asked for.
        champion: Its figures by head, on the hold-out.
        candidate: The same.
        latency_ms: Time of a batch, by "champion" and "candidate".
        kept: Figures on the days before, of the champion and of the candidate, if looked at.

    Raises:
        UsageError: The champion has no such metric.
    """
    reasons = _not_better(thresholds, champion, candidate)
    for head, figures in champion.items():
        theirs = candidate.get(head)
        if theirs is None:
            reasons.append(f"it has no head {head}")
            continue
        name = "log_loss" if "log_loss" in figures else "hr@10"
        worse = _gain(name, theirs[name], figures[name]) / max(figures[name], 1e-9) * 100
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


def _not_better(thresholds: Thresholds, champion: Figures, candidate: Figures) -> list[str]:
    head, _, figure = thresholds.metric.partition(".")
    try:
        before = champion[head][figure]
    except KeyError as error:
        there = ", ".join(f"{of}.{name}" for of, names in champion.items() for name in names)
        raise UsageError(f"there is no figure {thresholds.metric!r}, there are {there}") from error
    after = candidate.get(head, {}).get(figure, float("nan"))
    # Written so that NaN fails it too.
    if _gain(figure, before, after) >= thresholds.margin:
        return []
    return [
        f"{thresholds.metric} is {after:.4f}, the champion's {before:.4f}; "
        f"{thresholds.margin:g} better is asked for"
    ]


def _gain(figure: str, before: float, after: float) -> float:
    """By how much it got better."""
    return before - after if figure in _LESS else after - before


def forgotten(before: Figures, after: Figures, least_pct: float) -> list[str]:
    """The heads that lose too much of their score - area under the curve, or hits in ten."""
    reasons = []
    for head, figures in after.items():
        name = "auc" if "auc" in figures else "hr@10"
        kept_pct = 100 * figures[name] / before[head][name]
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
