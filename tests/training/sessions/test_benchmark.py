"""`clickpath benchmark diginetica`, on a small log of its form."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from clickpath.cli import main
from training.sessions.ranking import figures


def small_log(folder: Path) -> tuple[str, str]:
    """Forty items in a ring; the next one is most often the neighbour."""
    rng = random.Random(1)
    sessions = []
    for _ in range(400):
        at, session = rng.randrange(40), []
        for _ in range(rng.randint(2, 5)):
            session.append(f"item-{at}")
            at = (at + 1) % 40 if rng.random() < 0.9 else rng.randrange(40)
        sessions.append(session)
    train, test = folder / "train.txt", folder / "test.tsv"
    train.write_text("\n".join(" ".join(session) for session in sessions[:300]))
    test.write_text("".join(f"{' '.join(s[:-1])}\t{s[-1]}\n" for s in sessions[300:]) + "x\ty\n")
    return str(train), str(test)


def test_ranks_beyond_twenty_count_nothing() -> None:
    assert figures(np.array([1, 2, 20, 21, np.inf])) == pytest.approx((60.0, 31.0))


def test_a_small_log_is_learnt_in_the_time_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = small_log(tmp_path)
    command = ["benchmark", "diginetica", "--train", train, "--test", test]
    assert main([*command, "--minutes", "0.3", "--threads", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(record["test"]) == {"model", "knn", "fused"}
    assert record["test"]["model"]["mrr@20"] > 50
    assert record["test"]["fused"]["mrr@20"] > 50
    assert record["test"]["fused"]["hr@20"] < 100  # the last prefix is of unknown items


def test_an_item_that_only_the_newest_sessions_have_is_recommended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = small_log(tmp_path)
    with Path(train).open("a") as file:
        file.write("\nitem-1 new item-2" * 10)
    Path(test).write_text("item-1\tnew\n")
    command = ["benchmark", "diginetica", "--train", train, "--test", test]
    assert main([*command, "--minutes", "0.3", "--threads", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["test"]["model"]["mrr@20"] > 20


def test_newest_sessions_without_known_items_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = tmp_path / "train.txt", tmp_path / "test.tsv"
    train.write_text("a b\n" * 50 + "c d\n" * 12)
    test.write_text("a\tb\n")
    assert main(["benchmark", "diginetica", "--train", str(train), "--test", str(test)]) == 2
    assert "share no two items with the others" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["amazon"], "invalid choice: 'amazon'"),
        (["diginetica", "--minutes", "0"], "--minutes is 0.0, must be above 0"),
        (["diginetica", "--threads", "0"], "--threads is 0, must be at least 1"),
        (["diginetica", "--train", "x"], "--train and --test go together"),
        (["diginetica", "--train", "x", "--test", "y"], "x cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
