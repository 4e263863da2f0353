"""What stands in a report: the figures of a run, its curves, and some paths explained."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from clickpath.vocabulary import ACTIONS
from serving.card import Card
from serving.graph import Graph
from training.calibration import Calibration
from training.dataset import Batch, Part
from training.explain import shares
from training.labels import HEAD
from training.metrics import Bools, Floats
from training.report import plots
from training.report.page import Row, Section, facts, path, table
from training.said import Asked, Said

_COLUMNS: Final = {
    "action": ("log_loss", "auc", "accuracy", "macro_f1", "hr@5", "mrr", "ece"),
    "binary": ("log_loss", "auc", "pr_auc", "macro_f1", "ece"),
    "token": ("hr@1", "hr@5", "hr@10", "ndcg@5", "mrr", "ece"),
}
_TITLES: Final = {name: name.replace("_", " ") for name in HEAD}

#: Paths that are explained, and their most steps.
_EXAMPLES: Final = 4
_SHOWN_STEPS: Final = 20


def sections(
    card: Card,
    calibration: Calibration,
    record: Any,
    asked: Asked,
    said: Said,
    test: Part,
    graph: Graph,
) -> list[Section]:
    """The parts of the page, in their order."""
    parts = [_tables(record)]
    history: Any = card.metrics.get("history")
    if history:
        words = "Loss by epoch; the dashed line is the epoch that was chosen, on validation data."
        best: Any = card.metrics["best_epoch"]
        parts.append(Section("Training", words, plots.curves(history, best)))
    binary = _yes_or_no(asked, said)
    sure = _likeliest(asked, said)
    parts.append(
        Section(
            "Calibration",
            "Answers in bins of equal number, by what was said and by what came. On the dashed "
            "line, three in ten of those to whom 30 % was said do it.",
            plots.calibration({**binary, **sure}),
        )
    )
    if binary:
        words = "How well a yes is told from a no, at every threshold."
        parts.append(Section("ROC and precision", words, plots.roc_and_pr(binary)))
    if "purchase" in binary:
        words = "What is gained by asking only about the likeliest: a budget's view of the model."
        parts.append(Section("Lift of the purchase", words, plots.lift(*binary["purchase"])))
        words = "How early the model knows: AUC after the k-th click, with 95 % intervals."
        ends = record["purchase_auc_by_click_ci"]
        body = plots.by_click(record["purchase_auc_by_click"], ends)
        parts.append(Section("Purchase by click", words, body))
        parts.append(_examples(graph, test))
    rows = asked.known("next_action")
    if rows.any():
        words = "Each row is an action that came; the larger a dot, the more often the action of "
        words += "its column was the likeliest one."
        likely = said["next_action"][rows].argmax(axis=1).astype(np.int64)
        body = plots.confusion(asked.labels["next_action"][rows], likely)
        parts.append(Section("Next action", words, body))
    parts.append(_model_card(card, calibration, record))
    return parts


def _tables(record: Any) -> Section:
    body = []
    for name, of_head in record["heads"].items():
        columns = _COLUMNS[HEAD[name].kind]
        ends = [_between(of_head["ci"].get(column)) for column in columns]
        rows = [Row("model", [_cell(of_head[c]) for c in columns], ends)]
        for who, figures in of_head["baselines"].items():
            rows.append(Row(who, [_cell(figures[c]) for c in columns]))
        body.append(f"<h3>{_TITLES[name]}, {of_head['n']:,} answers</h3>{table(columns, rows)}")
    words = "On clicks later than all that was trained on. Below the model's figures: 95 % "
    words += "intervals by bootstrap over users."
    return Section("The model beside the baselines", words, "".join(body))


def _yes_or_no(asked: Asked, said: Said) -> dict[str, tuple[Floats, Bools]]:
    """What was said and what came, of the heads that say yes or no and have both."""
    found = {}
    for name, head in HEAD.items():
        rows = asked.known(name)
        if head.kind == "binary" and name in said and len(np.unique(asked.labels[name][rows])) > 1:
            came = asked.labels[name][rows] == 1
            found[name] = (said[name][rows].astype(np.float64), came)
    return found


def _likeliest(asked: Asked, said: Said) -> dict[str, tuple[Floats, Bools]]:
    rows = asked.known("next_action")
    if not rows.any():
        return {}
    probability = said["next_action"][rows].astype(np.float64)
    right = probability.argmax(axis=1) == asked.labels["next_action"][rows]
    return {"likeliest action": (probability.max(axis=1), right)}


def _examples(graph: Graph, test: Part) -> Section:
    """Some paths, the steps coloured by what they do to the purchase."""

    def ask(paths: np.ndarray[Any, np.dtype[np.int64]]) -> Floats:
        return graph.run(paths)["purchase"].astype(np.float64)

    batch: Batch = next(test.batches(256))
    long = np.flatnonzero((batch.lengths >= 4) & (batch.lengths <= _SHOWN_STEPS))
    if not len(long):
        long = np.flatnonzero(batch.lengths >= 2)
    said = ask(batch.paths[long]) if len(long) else np.zeros(0)
    body = []
    for row in long[np.argsort(-said, kind="stable")[:_EXAMPLES]]:
        steps = int(batch.lengths[row])
        each = shares(ask, batch.paths[row])
        first = max(0, steps - _SHOWN_STEPS)
        names = [ACTIONS[action - 1] for action in batch.paths[row, 0, first:steps]]
        chance = ask(batch.paths[row : row + 1])[0]
        body.append(f"<p>Purchase {chance:.0%}</p>{path(names, each[first:].tolist())}")
    words = "What the log odds of a purchase lose when a step is taken out: green speaks for a "
    words += "purchase, brown against one; point at a step for its share."
    return Section("Example paths", words, "".join(body) or "<p>No path is long enough.</p>")


def _model_card(card: Card, calibration: Calibration, record: Any) -> Section:
    data: Any = card.data
    pairs = [
        ("Model", f"{card.name}, {card.digest}"),
        ("Encoder", card.encoder),
        ("Made by", card.command),
        ("Answers", ", ".join(_TITLES.get(head, head) for head in card.all_heads or card.heads)),
        ("Tested on", f"{record['data']}, {record['users']:,} users"),
        *((key, _plain(value)) for key, value in sorted(data.items()) if not _long(value)),
        *(
            (
                f"Calibration of {_TITLES[name]}",
                f"slope {of.slope:.3f}, shift {of.shift:+.3f}, "
                f"error {of.ece[0]:.4f} to {of.ece[1]:.4f} on {of.rows:,} labels",
            )
            for name, of in calibration.items()
        ),
        ("Meant for", "choosing interventions in the shop whose clicks it was trained on"),
        ("Not meant for", "prices or terms for a person, and shops that it has never seen"),
    ]
    return Section("Model card", "What it is, what it was made of, what it is for.", facts(pairs))


def _long(value: Any) -> bool:
    return isinstance(value, dict | list) and len(str(value)) > 400


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _between(ends: Any) -> str:
    return "" if not ends or None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"
