"""Evaluation: the shape that others rely on, and blanks where nothing can be told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickpath.cli import main
from clickpath.simulation import simulate
from clickpath.wire import click_to_json
from training.evaluation import CLICKS, FIGURES, evaluated
from training.labels import HEADS
from training.said import Asked

ROWS = 60
RNG = np.random.default_rng(1)
LIST = np.tile(np.arange(1, 21), (ROWS, 1))


def asked(**labels: Any) -> Asked:
    every = {head.name: np.full(ROWS, head.unknown) for head in HEADS} | labels
    return Asked(every, np.arange(ROWS) // 3, np.resize([1, 2, 3], ROWS))


def test_each_head_has_all_figures_and_those_that_do_not_apply_are_null() -> None:
    labels = {
        "next_action": RNG.integers(1, 4, ROWS),
        "next_item": RNG.integers(1, 40, ROWS),
        "purchase": RNG.integers(0, 2, ROWS),
    }
    said = {
        "next_action": RNG.dirichlet(np.ones(22), ROWS),
        "next_item": np.full((ROWS, 20), 0.05),
        "next_item_token": LIST,
        "purchase": RNG.random(ROWS),
    }
    record: Any = evaluated(asked(**labels), said, {"knn": said}, draws=20)
    heads = record["heads"]
    assert {*heads} == {*labels}
    for of_head in heads.values():
        assert {*FIGURES} <= {*of_head}
        assert {*FIGURES} <= {*of_head["baselines"]["knn"]}
        assert of_head["n"] == ROWS
        for name, (low, high) in of_head["ci"].items():
            assert low <= high, name
    missing = {name: {f for f in FIGURES if of[f] is None} for name, of in heads.items()}
    assert missing["next_action"] == set()
    assert missing["next_item"] == {"macro_f1", "auc", "pr_auc", "log_loss"}
    assert missing["purchase"] == {f for f in FIGURES if "@" in f} | {"mrr"}
    assert json.loads(json.dumps(record)) == record


def test_the_purchase_is_measured_by_click_and_blank_where_nobody_clicked_so_often() -> None:
    bought = np.resize([0, 0, 0, 1, 1, 1], ROWS)
    record: Any = evaluated(asked(purchase=bought), {"purchase": bought * 0.5}, {}, draws=5)
    areas = record["purchase_auc_by_click"]
    assert [int(click) for click in areas] == [*CLICKS]
    assert areas == {"1": 1.0, "3": 1.0, "5": None, "10": None}
    assert record["purchase_auc_by_click_ci"]["1"] == [1.0, 1.0]


def test_rows_whose_label_is_not_known_are_not_measured() -> None:
    labels = np.where(np.arange(ROWS) < 10, 1, 0)
    said = {"next_action": np.tile(np.eye(22)[1], (ROWS, 1))}
    record: Any = evaluated(asked(next_action=labels), said, {}, draws=5)
    assert record["heads"]["next_action"]["n"] == 10
    assert record["heads"]["next_action"]["accuracy"] == 1.0


def test_the_command_measures_the_shipped_model_on_a_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "clicks.jsonl"
    lines = (click_to_json(click) for click in simulate(8_000, 100, seed=9))
    log.write_bytes(b"".join(line + b"\n" for line in lines))
    arguments = ["evaluate", "--corpus", str(log), "--draws", "20", "--no-baselines", "--json"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out.splitlines()[-1])
    assert record["heads"]["next_action"]["log_loss"] < 1.2
    low, high = record["heads"]["purchase"]["ci"]["auc"]
    assert low < record["heads"]["purchase"]["auc"] < high
    assert [*record["purchase_auc_by_click"]] == ["1", "3", "5", "10"]
    assert "next_action" in shown.out
    assert "asking the model" in shown.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere"),
        (["--draws", "0"], "--draws is 0, must be at least 1"),
        (["--corpus", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) != 0
    error = capsys.readouterr().err.splitlines()
    assert sentence in error[-1]
