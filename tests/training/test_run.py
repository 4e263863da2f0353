"""A whole run: from the command line to a directory that serving accepts."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from clickpath.cli import main
from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import FatalError, ModelMismatch
from clickpath.simulation import simulate
from clickpath.window import EMPTY_PATH, Window, push
from clickpath.wire import click_to_json
from serving.card import MODEL_FILE, check_card, read_card, read_model
from serving.embedded import EmbeddedPredictor
from serving.outputs import CANDIDATES
from training.checkpoint import CONFIG_FILE, load_checkpoint
from training.corpus import Simulated
from training.dataset import Dataset, Part
from training.package import check_package
from training.predict import check_export
from training.run import EXAMPLES_FOLDER, LOGS_FOLDER, PRETRAINING_FOLDER, Run, first_model
from training.standing import STANDING_FILE

ENCODER = Encoder(Window())
SMALL = ["--epochs", "1", "--seed", "3"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "clicks.jsonl"
    lines = [click_to_json(click) for click in simulate(6_000, 100, seed=3)]
    path.write_bytes(b"\n".join([*lines[:50], b"not an event", *lines[50:]]) + b"\n")
    return path


@pytest.fixture(scope="module")
def run(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "a"
    assert main(["train", "--corpus", str(log), "--out", str(out), *SMALL]) == 0
    return out


def test_the_card_fits_the_model_and_the_worker(run: Path) -> None:
    card, model = read_card(run), read_model(run)
    check_card(card, model, ENCODER, run)
    assert card.command.startswith("clickpath train --corpus ")
    clicks = card.data["clicks"]
    assert isinstance(clicks, dict)
    assert clicks["read"] == 6_001
    assert clicks["dropped"] == {"refused_not_json": 1}
    heads = card.metrics["heads"]
    assert isinstance(heads, dict)
    assert {*heads} == {"next_action", "next_category", "next_item", "purchase", "leave"}
    assert card.heads == ("next_action", "purchase", "leave")
    assert {*card.all_heads} == {*heads}


def test_the_checkpoint_and_the_exported_model_say_the_same(run: Path) -> None:
    state = EMPTY_PATH
    for click in islice(simulate(10, 1, seed=3), 10):
        state, _ = push(state, click, ENCODER.window)
    paths = np.array(ENCODER.encode(state)).reshape(1, FEATURES, -1)
    assert check_package(load_checkpoint(run, ENCODER), ENCODER, run, Part.of(paths))


async def test_a_worker_gets_what_decisions_need_and_more_if_it_asks(run: Path) -> None:
    path = ENCODER.encode(push(EMPTY_PATH, next(simulate(1, 1, seed=3)), ENCODER.window)[0])
    quick, whole = (EmbeddedPredictor(run, ENCODER, every_head=more) for more in (False, True))
    [few], [many] = [await p.predict([path], deadline_s=30) for p in (quick, whole)]
    assert few.others is not None
    assert few.others.leave is not None
    assert few.others.next_item == ()
    assert many.others is not None
    assert len(many.others.next_item) == CANDIDATES
    assert many.next_action == pytest.approx(few.next_action, abs=1e-4)
    await quick.close()
    await whole.close()


def test_a_run_leaves_its_examples_its_logs_and_its_standing(run: Path) -> None:
    assert (run / EXAMPLES_FOLDER / "manifest.json").exists()
    assert list((run / LOGS_FOLDER).glob("events.out.tfevents.*"))
    assert (run / STANDING_FILE).exists()


def test_a_checkpoint_of_another_encoder_is_refused(run: Path) -> None:
    with pytest.raises(ModelMismatch, match="was trained with encoder"):
        load_checkpoint(run, Encoder(Window(steps=20)))


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="no checkpoint"):
        load_checkpoint(tmp_path, ENCODER)
    (tmp_path / CONFIG_FILE).write_bytes((run / CONFIG_FILE).read_bytes())
    with pytest.raises(ModelMismatch, match="weights in"):
        load_checkpoint(tmp_path, ENCODER)
    (tmp_path / CONFIG_FILE).write_text("{}")
    with pytest.raises(ModelMismatch, match="no configuration"):
        load_checkpoint(tmp_path, ENCODER)


def test_the_same_command_makes_the_same_model_and_goes_on_where_it_was_stopped(
    run: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ["train", "--corpus", str(log), "--out", str(tmp_path), "--json", *SMALL]
    capsys.readouterr()
    assert main(first) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert read_model(tmp_path) == read_model(run)
    assert record["model"] == read_card(run).digest
    assert {*record["heads"]["purchase"]["baselines"]} == {"popularity", "markov1", "markov2"}
    (tmp_path / MODEL_FILE).unlink()
    assert main([*first, "--resume"]) == 0
    assert read_model(tmp_path) == read_model(run)


def test_a_run_can_begin_with_the_weights_of_another(run: Path) -> None:
    start = Run(corpus=Simulated(1, 1, 1), out=run, command="", encoder=ENCODER, start=run)
    model = first_model(start, Dataset.open(run / EXAMPLES_FOLDER).part("train"))
    for name, weight in load_checkpoint(run, ENCODER).state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "x", "--epochs", "0"], "--epochs is 0, must be at least 1"),
        (["--out", "x", "--minutes", "nan"], "--minutes is nan, must be above 0"),
        (["--out", "x", "--corpus", "nowhere.jsonl"], "there is no corpus at nowhere.jsonl"),
        (["--out", "x", "--format", "runes"], "invalid choice: 'runes'"),
        ([], "the following arguments are required: --out"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "nowhere"],
        ["evaluate", "nowhere"],
        ["export", "nowhere", "--out", "x"],
        ["refresh", "nowhere", "--corpus", "clicks.jsonl", "--out", "x"],
    ],
)
def test_a_run_that_is_not_there_is_said_before_torch_is_loaded(arguments: list[str]) -> None:
    code = f"import sys; from clickpath.cli import main; code = main({arguments}); "
    code += "sys.exit(99 if 'torch' in sys.modules else code)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 1, ended.stderr
    [said] = ended.stderr.splitlines()
    assert said.startswith("clickpath: there is no model card to read at nowhere/card.json")


def test_an_export_that_says_something_else_is_refused() -> None:
    trained = {"next_action": np.array([[0.5, 0.5]]), "purchase": np.array([0.5])}
    near = {**trained, "next_action": np.array([[0.50005, 0.49995]])}
    check_export(trained, near)
    with pytest.raises(FatalError, match=r"differs from the trained one by 0\.0002"):
        check_export(trained, {"purchase": np.array([0.5002])})
    with pytest.raises(FatalError, match="by nan"):
        check_export(trained, {"purchase": np.array([float("nan")])})


@pytest.mark.slow
def test_a_run_can_begin_with_pretraining_on_the_paths_alone(log: Path, tmp_path: Path) -> None:
    more = ["--pretrain", "1", "--masked", "0.2"]
    assert main(["train", "--corpus", str(log), "--out", str(tmp_path), *SMALL, *more]) == 0
    assert (tmp_path / PRETRAINING_FOLDER / STANDING_FILE).exists()


@pytest.mark.slow
def test_two_processes_train_one_model(log: Path, tmp_path: Path) -> None:
    torchrun = Path(sys.executable).with_name("torchrun")
    arguments = ["train", "--corpus", str(log), "--out", str(tmp_path), *SMALL]
    command = [torchrun, "--standalone", "--nproc-per-node", "2", "-m", "clickpath", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("reading the corpus") == 1
    check_card(read_card(tmp_path), read_model(tmp_path), ENCODER, tmp_path)
