"""The pictures of a report, as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from clickpath.vocabulary import ACTIONS
from training.metrics import BINS, Bools, Curve, Floats, Ints

#: Colours that stand for those of the page: they are replaced when a picture is written.
_INK: Final = "#010203"
_FAINT: Final = "#040506"
_FIRST: Final = "#070809"
_SECOND: Final = "#0a0b0c"
_PAPER: Final = "#0d0e0f"
_OF_PAGE: Final = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
    _PAPER: "var(--paper)",
}
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_SIZE: Final = (7.2, 2.8)


def curves(history: Sequence[Mapping[str, Any]], best: int) -> str:
    """Training and validation loss by epoch, and the epoch that was chosen."""
    with rc_context(_STYLE):
        figure, axes = _panels(1)
        epochs = [of["epoch"] for of in history]
        axes[0].plot(epochs, [of["train_loss"] for of in history], color=_SECOND, label="training")
        losses = [of["valid_loss"] for of in history]
        axes[0].plot(epochs, losses, color=_FIRST, marker="o", markersize=4, label="validation")
        axes[0].axvline(best, color=_FAINT, linestyle="--", linewidth=1)
        axes[0].set(xlabel="epoch", ylabel="loss")
        axes[0].xaxis.get_major_locator().set_params(integer=True)
        axes[0].legend()
        return _svg(figure, "curves")


def calibration(said: Mapping[str, tuple[Floats, Bools]]) -> str:
    """How often it came so, by how likely it was said to be, in bins of equally many answers."""
    with rc_context(_STYLE):
        figure, axes = _panels(len(said))
        for axis, (name, (probability, came)) in zip(axes, said.items(), strict=True):
            edges = np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1])
            place = np.searchsorted(edges, probability)
            often = np.bincount(place, minlength=BINS)
            there = often > 0
            x = np.bincount(place, probability, BINS)[there] / often[there]
            y = np.bincount(place, came, BINS)[there] / often[there]
            top = max(x.max(), y.max()) * 1.05
            axis.plot([0, top], [0, top], color=_FAINT, linestyle="--", linewidth=1)
            axis.plot(x, y, color=_FIRST, marker="o", markersize=4)
            axis.set(title=name, xlabel="said", ylabel="came")
        return _svg(figure, "calibration")


def roc_and_pr(said: Mapping[str, tuple[Floats, Bools]]) -> str:
    """ROC and precision-recall curves of the heads that say yes or no."""
    with rc_context(_STYLE):
        figure, (roc, precision) = _panels(2)
        for (name, (probability, came)), color, dash in zip(
            said.items(), (_FIRST, _SECOND, _INK, _INK), ("-", "-", "--", ":"), strict=False
        ):
            true, false = Curve.of(came, probability).counts()
            recall = np.concatenate([[0], true / true[-1]])
            wrong = np.concatenate([[0], false / false[-1]])
            roc.plot(wrong, recall, color=color, linestyle=dash, label=name)
            precision.plot(
                recall[1:], true / (true + false), color=color, linestyle=dash, label=name
            )
        roc.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
        roc.set(title="ROC", xlabel="false positives", ylabel="true positives")
        precision.set(
            title="precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1)
        )
        roc.legend()
        return _svg(figure, "roc")


def lift(probability: Floats, came: Bools) -> str:
    """Gains: the share of the purchases among the likeliest answers; lift by tenth."""
    with rc_context(_STYLE):
        figure, (gains, tenths) = _panels(2)
        ordered = came[np.argsort(-probability, kind="stable")]
        asked = np.arange(len(ordered) + 1) / len(ordered)
        gained = np.concatenate([[0], np.cumsum(ordered)]) / ordered.sum()
        gains.plot(asked, gained, color=_FIRST)
        gains.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
        gains.set(title="gains", xlabel="share of answers, likeliest first", ylabel="of purchases")
        of_tenth = [part.mean() / ordered.mean() for part in np.array_split(ordered, 10)]
        tenths.bar(range(1, 11), of_tenth, color=_FIRST)
        tenths.axhline(1, color=_FAINT, linestyle="--", linewidth=1)
        tenths.set(title="lift by tenth", xlabel="tenth, likeliest first", xticks=range(1, 11))
        return _svg(figure, "lift")


def confusion(label: Ints, likely: Ints) -> str:
    """What came, by row, and what was likeliest, as shares of the row."""
    there = np.unique(np.concatenate([label, likely]))
    size = len(there)
    rows, columns = np.searchsorted(there, label), np.searchsorted(there, likely)
    counts = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    names = [ACTIONS[action - 1] for action in there]
    with rc_context({**_STYLE, "axes.grid": False, "font.size": 8}):
        figure = Figure(figsize=(7.2, 1.4 + 0.26 * size), layout="constrained")
        axis = figure.subplots()
        for row in range(size):
            for column in range(size):
                if shares[row, column] > 0.005:
                    axis.scatter(
                        column, row, s=150 * shares[row, column], color=_FIRST, linewidths=0
                    )
        axis.set(xlim=(-0.6, size - 0.4), ylim=(size - 0.4, -0.6))
        axis.set_xticks(range(size), names, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(size), names)
        axis.set(xlabel="likeliest", ylabel="came")
        axis.grid(visible=True)
        return _svg(figure, "confusion")


def by_click(areas: Mapping[str, float | None], ends: Mapping[str, Sequence[float | None]]) -> str:
    """ROC AUC of a purchase after the k-th click of a session, with its interval."""
    known = [k for k, area in areas.items() if area is not None]
    with rc_context(_STYLE):
        figure, axes = _panels(1)
        middle = np.array([areas[k] for k in known], float)
        low, high = (np.array([ends[k][end] for k in known], float) for end in (0, 1))
        gaps = np.abs(np.stack([middle - low, high - middle]))
        place = range(len(known))
        axes[0].errorbar(place, middle, gaps, color=_FIRST, marker="o", capsize=4, linewidth=1.5)
        axes[0].axhline(0.5, color=_FAINT, linestyle="--", linewidth=1)
        axes[0].set_xticks(place, known)
        axes[0].set(xlabel="click of the session", ylabel="AUC")
        return _svg(figure, "clicks")


def _panels(count: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _svg(figure: Figure, name: str) -> str:
    text = StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, of_page in _OF_PAGE.items():
        svg = svg.replace(color, of_page)
    # What matplotlib tells about itself points elsewhere; the page is to be by itself.
    start, end = svg.find("<metadata>"), svg.find("</metadata>")
    if start >= 0:
        svg = svg[:start] + svg[end + len("</metadata>") :]
    return svg
