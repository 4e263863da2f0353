"""The Taobao benchmark: its protocol, and the model with counts inside."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from clickpath.cli import main
from clickpath.encoding import Encoder
from clickpath.window import Window
from serving.outputs import output_names
from training.benchmark import real_data
from training.counted import CountedModel, count, fit_wide
from training.dataset import Part
from training.export import to_onnx
from training.form import ModelConfig
from training.heads import vocabulary_of
from training.package import write_package
from training.predict import predict
from training.taobao import HEADS, Log, each_step, part_of, read

BEHAVIOURS = ["pv", "pv", "pv", "pv", "cart", "fav", "buy"]


def write_log(path: Path, users: int = 300, seed: int = 1) -> Path:
    """Users who stay near one category and buy more in some than in others."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(users):
        home = int(rng.integers(1, 9))
        for step in range(int(rng.integers(1, 7))):
            category = home if rng.random() < 0.6 else (home % 8) + 1
            kind = "buy" if category > 6 and rng.random() < 0.4 else rng.choice(BEHAVIOURS)
            second = 1_511_658_000 + 60 * step + user % 50
            lines.append((second, f"{user},{rng.integers(1, 99)},{category},{kind},{second}"))
    path.write_text("\n".join(line for _, line in sorted(lines)) + "\n")
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return read(write_log(tmp_path_factory.mktemp("taobao") / "log.csv"), seed=0)


def test_a_user_is_in_one_part_with_all_her_clicks(log: Log) -> None:
    users = [{*batch.users.tolist()} for batch in (log.train, log.valid, log.test)]
    assert not users[0] & users[1]
    assert not (users[0] | users[1]) & users[2]
    # A user of whose only click nothing is known later is in none.
    assert sum(map(len, users)) <= log.users == 300
    shares = [len(of) / sum(map(len, users)) for of in users]
    assert shares == [pytest.approx(share, abs=0.06) for share in (0.72, 0.08, 0.2)]


def test_every_click_with_a_next_one_is_asked_about_from_what_was_before_it(log: Log) -> None:
    part = each_step(log.test)
    assert len(part) == (log.test.labels["next_action"] != 0).sum()
    assert len(part) == int((log.test.lengths - 1).sum())
    assert part.known["next_action"] == part.known["next_category"] == len(part)
    whole = part.whole()
    assert (whole.paths[np.arange(len(whole)), 0, whole.lengths - 1] != 0).all()
    two = log.test.lengths.argmax()
    mine = whole.paths[whole.users == log.test.users[two]]
    for length, path in enumerate(mine, start=1):
        same = log.test.paths[two, :, :length]
        assert np.array_equal(path[:, :length], same)
        assert not path[:, length:].any()


FORM = ModelConfig(heads=HEADS, items=1, shared_items=1)


@pytest.fixture(scope="module")
def counted(log: Log) -> CountedModel:
    torch.manual_seed(1)
    model = CountedModel(FORM, vocabulary_of(part_of(log.train), FORM))
    count(model, log.train)
    fit_wide(model, log.train)
    return model


def test_before_any_training_it_says_what_the_counts_say(counted: CountedModel, log: Log) -> None:
    part = each_step(log.test)
    said = predict(counted, part)
    label = part.last_labels()
    chosen = said["next_action"][np.arange(len(part)), label["next_action"]]
    shares = np.bincount(label["next_action"])
    shares = shares[shares > 0] / len(part)
    assert -np.log(chosen).mean() < -(shares * np.log(shares)).sum()
    assert (said["next_category_token"][:, :2] == label["next_category"][:, None]).any(
        1
    ).mean() > 0.7


def test_what_it_says_does_not_depend_on_later_steps(counted: CountedModel, log: Log) -> None:
    paths = torch.from_numpy(log.test.paths[log.test.lengths >= 4])
    other = paths.clone()
    other[:, :, 2:] = 0
    with torch.inference_mode():
        one, two = counted.eval()(paths), counted(other)
    for name in HEADS:
        torch.testing.assert_close(one[name][:, :2], two[name][:, :2])


def test_what_a_user_did_is_not_in_the_rates_that_are_learned_from(
    counted: CountedModel, log: Log
) -> None:
    paths = torch.from_numpy(log.train.paths[:1])
    row = counted.embed.categories(paths[:, 2])
    clicks = torch.log1p(counted.rates[row].sum(-1))
    own = ((row[:, :, None] == row[:, None, :]) & (paths[:, 0] != 0)[:, None, :]).sum(-1)
    asked = counted.eval().summary(paths, row)[..., -1]
    torch.testing.assert_close(asked, clicks)
    learned = counted.train().summary(paths, row)[..., -1]
    torch.testing.assert_close(learned, torch.log(clicks.exp() - own))


def test_the_command_gives_all_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_log(tmp_path / "log.csv", users=150)
    assert main(["benchmark", "taobao", "--log", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {*record["heads"]} == {*HEADS}
    assert record["heads"]["next_action"]["log_loss"] > 0
    assert 0 < record["heads"]["next_category"]["hr@10"] <= 1
    others = {"transformer", "popularity", "markov1", "markov2", "lightgbm", "gru"}
    assert others <= {*record["heads"]["next_action"]["baselines"]}
    assert {*record["kept"]} <= {*HEADS}
    assert (record["users"], record["seed"]) == (150, 0)


def test_a_log_of_few_users_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_log(tmp_path / "log.csv", users=20)
    assert main(["benchmark", "taobao", "--log", str(path)]) == 2
    assert "at least 100 are needed" in capsys.readouterr().err
    assert main(["benchmark", "taobao", "--log", "nowhere.csv"]) == 2
    assert "there is no log at nowhere.csv" in capsys.readouterr().err


@pytest.mark.data
def test_the_protocol_asks_what_the_published_figures_were_measured_on() -> None:
    path = real_data() / "taobao" / "UserBehavior.csv.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    log = read(path, seed=0)
    assert (log.events, log.users) == (96_168, 58_732)
    assert len(each_step(log.test)) == 7_389


@pytest.fixture(scope="module")
def trained(counted: CountedModel) -> CountedModel:
    """With layers that add to the counts, as after training."""
    model = deepcopy(counted).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("heads.", "mixture.")):
                weight.add_(0.3 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_graph_says_what_the_counts_and_the_layers_say(
    trained: CountedModel, log: Log, graph: onnxruntime.InferenceSession, batch: int
) -> None:
    part = each_step(log.test)
    some = Part.of(part.whole().paths[:batch])
    expected = predict(trained, some)
    names = output_names(HEADS)
    said = dict(zip(names, graph.run(names, {"paths": some.whole().paths}), strict=True))
    assert {*expected} == {*names}
    for name, of in said.items():
        if not name.endswith("_token"):
            np.testing.assert_allclose(of, expected[name], atol=1e-4)


def test_the_graph_has_the_counts(
    counted: CountedModel, log: Log, graph: onnxruntime.InferenceSession
) -> None:
    paths = each_step(log.test).whole().paths
    others = deepcopy(counted).eval()
    others.rates.zero_()
    [said] = graph.run(["next_action"], {"paths": paths})
    without = predict(others, Part.of(paths))["next_action"]
    assert np.abs(said - without).max() > 0.01


@pytest.fixture(scope="module")
def graph(trained: CountedModel) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        to_onnx(trained, steps=50), providers=["CPUExecutionProvider"]
    )


def test_a_model_with_counts_is_a_package_without_step_graphs(
    trained: CountedModel, tmp_path: Path
) -> None:
    card = write_package(trained, Encoder(Window()), tmp_path, "none", {})
    assert card.heads == ("next_action",)
    assert card.all_heads == HEADS
    assert card.step_sha256 == ()
