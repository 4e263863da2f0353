"""The search for settings: in time, repeatable by its first trial, never on the test part."""

import json

import pytest

from clickpath.cli import main


def test_it_names_the_best_settings_within_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--events", "4000", "--users", "60", "--minutes", "0.05", "--json"]
    assert main(["tune", *arguments]) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out.splitlines()[-1])
    assert {*record["best"]} == {"rate", "weight_decay", "disguise", "dropout", "batch"}
    assert record["trials"] >= 1
    assert record["loss"] > 0
    assert "trial 0: validation loss" in shown.err


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--minutes", "0"]) == 2
    assert "--minutes is 0.0, must be above 0" in capsys.readouterr().err
    assert main(["tune", "--corpus", "nowhere.jsonl"]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
