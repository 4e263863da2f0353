"""The step graphs say what the trained model says, whatever its form."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clickpath.encoding import FEATURES, Encoder
from clickpath.vocabulary import ACTION_COUNT
from clickpath.window import Window
from serving.card import read_card, step_file
from serving.incremental import StepByStep
from serving.incremental_graphs import Ints
from training.dataset import Part
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel
from training.package import write_package
from training.predict import predict

ITEMS = np.random.default_rng(5).integers(1, 2**63 - 1, 40)
CATEGORIES = np.random.default_rng(6).integers(1, 2**63 - 1, 30)
ENCODER = Encoder(Window())

FORMS = {
    "two layers": ModelConfig(width=32, hidden=48, attention_heads=2, attention_window=17),
    "one layer, one head": ModelConfig(width=16, attention_heads=1, layers=1, attention_window=9),
    "three layers, four heads": ModelConfig(
        width=32,
        attention_heads=4,
        layers=3,
        attention_window=12,
        heads=("purchase", "next_action"),
    ),
}


@pytest.fixture(params=list(FORMS))
def model(request: pytest.FixtureRequest) -> PathModel:
    torch.manual_seed(1)
    made = PathModel(FORMS[request.param], Vocabulary(ITEMS, CATEGORIES)).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # At first they are 0 or 1, where a mistake would not show.
            if name.endswith("bias"):
                weight.normal_()
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return made


def sessions(rows: int, length: int) -> Ints:
    """Sessions of which an item comes again and again, (rows, FEATURES, length)."""
    draw = np.random.default_rng(3)
    paths = np.zeros((rows, FEATURES, length), np.int64)
    items = np.concatenate([draw.choice(ITEMS, 5), draw.integers(1, 2**63 - 1, 3), [0]])
    paths[:, 0] = draw.integers(1, ACTION_COUNT, (rows, length))
    paths[:, 1] = draw.choice(items, (rows, length))
    paths[:, 2] = draw.choice(CATEGORIES, (rows, length))
    paths[:, 3] = draw.integers(0, 42, (rows, length))
    paths[:, 4] = draw.integers(0, 50, (rows, length))
    paths[:, 5] = np.minimum(np.arange(1, length + 1), 63)
    return paths


def window_of(session: Ints, end: int) -> Ints:
    """What the encoder gives after so many steps: places and gaps begin within the window."""
    steps = ENCODER.window.steps
    path = np.zeros((len(session), FEATURES, steps), np.int64)
    kept = session[:, :, max(0, end - steps) : end]
    path[:, :, : kept.shape[2]] = kept
    path[:, 4, 0] = 0
    path[:, 5, : kept.shape[2]] = np.arange(1, kept.shape[2] + 1)
    return path


@pytest.mark.parametrize("stride", [1, 3])
def test_following_a_session_says_what_the_trained_model_says_of_each_window(
    model: PathModel, tmp_path: Path, stride: int
) -> None:
    write_package(model, ENCODER, tmp_path, "none", {})
    engine = StepByStep(tmp_path, ENCODER, cache_bytes=1 << 20)
    session = sessions(7, 120)
    session[:, 4, 0] = 0
    keys = [b"%d" % n for n in range(7)]
    for end in range(1, 120, stride):
        path = window_of(session, end)
        said = engine.outputs(path, keys)
        expected = predict(model, Part.of(path))
        assert {*said} == {*read_card(tmp_path).heads}
        for name, of in said.items():
            np.testing.assert_allclose(of, expected[name], atol=1e-4)
    assert engine.counts().misses == 7


def test_a_model_that_looks_back_further_than_a_path_is_kept_has_none(tmp_path: Path) -> None:
    near, far = (ModelConfig(attention_window=window) for window in (18, 19))
    assert (near.reach, far.reach) == (50, 52)
    for config, files in ((near, 3), (far, 0)):
        model = PathModel(config, Vocabulary(ITEMS, CATEGORIES))
        write_package(model, ENCODER, tmp_path, "none", {})
        assert len(read_card(tmp_path).step_sha256) == files
        assert len([*tmp_path.glob(step_file("*"))]) == files
