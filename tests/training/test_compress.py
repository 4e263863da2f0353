"""Smaller models: taught, or in 8 bits, and refused when a head loses too much."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from clickpath.cli import main
from clickpath.encoding import Encoder
from clickpath.errors import FatalError
from clickpath.window import Window
from serving.card import read_card
from serving.graph import Graph
from training.checkpoint import load_checkpoint
from training.compress import check_lost
from training.dataset import Dataset

ENCODER = Encoder(Window())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "a"
    size = ["--events", "8000", "--users", "150", "--epochs", "2"]
    assert main(["train", "--out", str(out), *size]) == 0
    return out


def test_a_head_that_loses_more_than_two_hundredths_of_a_figure_is_refused() -> None:
    before = {"purchase": {"auc": 0.80, "log_loss": 0.200, "rate": 0.1}}
    check_lost(before, {"purchase": {"auc": 0.785, "log_loss": 0.2039, "rate": 0.9}})
    check_lost(before, {"purchase": {"auc": 0.90, "log_loss": 0.1}})
    with pytest.raises(FatalError, match=r"head purchase loses 3\.0 % of its auc, from 0\.8000"):
        check_lost(before, {"purchase": {"auc": 0.776, "log_loss": 0.2}})
    with pytest.raises(FatalError, match=r"loses 5\.0 % of its log_loss"):
        check_lost(before, {"purchase": {"auc": 0.80, "log_loss": 0.21}})
    with pytest.raises(FatalError, match="loses nan"):
        check_lost(before, {"purchase": {"auc": float("nan"), "log_loss": 0.2}})


def test_a_figure_that_was_nothing_can_only_be_lost_where_less_is_better() -> None:
    check_lost({"next_item": {"hr@10": 0.0}}, {"next_item": {"hr@10": 0.1}})
    check_lost({"next_item": {"hr@10": 0.0}}, {"next_item": {"hr@10": 0.0}})
    with pytest.raises(FatalError, match="purchase loses inf % of its log_loss"):
        check_lost({"purchase": {"log_loss": 0.0}}, {"purchase": {"log_loss": 0.1}})
    with pytest.raises(FatalError, match="nan"):
        check_lost({"next_item": {"hr@10": 0.0}}, {"next_item": {"hr@10": float("nan")}})


def test_in_8_bits_a_model_is_smaller_and_says_about_the_same_whoever_is_in_the_batch(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 23 hits one is 4 %, and processors round differently.
    monkeypatch.setattr("training.compress.check_lost", partial(check_lost, most=0.1))
    assert main(["export", str(run), "--out", str(tmp_path), "--int8", "--json"]) == 0
    assert "bytes became" in capsys.readouterr().out
    assert (tmp_path / "model.onnx").stat().st_size < (run / "model.onnx").stat().st_size / 2
    assert read_card(tmp_path).command.startswith("clickpath export ")
    small, large = Graph(tmp_path, ENCODER), Graph(run, ENCODER)
    paths = next(Dataset.open(run / "examples").part("test").batches(40)).paths
    together, before = small.run(paths), large.run(paths)
    alone = small.run(paths[:2])
    np.testing.assert_allclose(together["purchase"], before["purchase"], atol=0.05)
    np.testing.assert_array_equal(alone["next_action"], together["next_action"][:2])


def test_a_student_that_learned_too_little_is_not_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student"
    arguments = ["export", str(run), "--out", str(out), "--student", "8", "--epochs", "1"]
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "at most 2 % is allowed, nothing was exported" in error
    assert not out.exists()


def test_what_cannot_be_exported_is_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--out", str(run)]) == 2
    assert "--out is the run itself" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "b")]) == 1
    assert "there is no model card to read at" in capsys.readouterr().err
    assert load_checkpoint(run, ENCODER).config.width == 32
