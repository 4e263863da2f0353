"""The model: causal, blind to padding, and equal to what is exported."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from clickpath.encoding import FEATURES
from clickpath.vocabulary import ACTION_COUNT
from training.export import to_onnx
from training.model import ModelConfig, PathModel, fold, repeats

STEPS = 50
BUCKETS = (8, 16, 32, 50)


def random_paths(batch: int, time: int, seed: int = 0, full: bool = False) -> NDArray[np.int64]:
    """Paths of all lengths up to `time`, with items that come again."""
    rng = np.random.default_rng([seed, batch, time])
    paths = np.zeros((batch, FEATURES, time), np.int64)
    items = rng.integers(1, 2**63 - 1, 6)
    for row in paths:
        n = time if full else rng.integers(1, time + 1)
        row[0, :n] = rng.integers(1, ACTION_COUNT, n)
        row[1, :n] = rng.choice(items, n) * (rng.random(n) < 0.7)
        row[2, :n] = rng.choice(items, n)
        row[3, :n] = rng.integers(0, 42, n)
        row[4, :n] = rng.integers(0, 50, n)
        row[5, :n] = rng.integers(1, 64, n)
    return paths


@pytest.fixture(scope="module")
def model() -> PathModel:
    torch.manual_seed(1)
    return PathModel(ModelConfig(width=32, hidden=48)).eval()


def last_of(model: PathModel, paths: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        logits, purchase = model(torch.from_numpy(paths))
    rows = torch.arange(len(paths))
    last = torch.from_numpy((paths[:, 0] != 0).sum(1) - 1)
    return logits[rows, last].softmax(-1), purchase[rows, last].sigmoid()


def test_what_is_said_after_a_step_does_not_depend_on_later_steps(model: PathModel) -> None:
    paths = random_paths(3, 20, full=True)
    other = paths.copy()
    other[:, :, 12:] = random_paths(3, 20, seed=9, full=True)[:, :, 12:]
    with torch.inference_mode():
        one, two = (model(torch.from_numpy(p)) for p in (paths, other))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a[:, :12], b[:, :12]) or torch.allclose(a[:, :12], b[:, :12], atol=1e-6)
        assert not torch.allclose(a[:, 12:], b[:, 12:], atol=1e-3)


def test_padding_is_never_the_next_action(model: PathModel) -> None:
    next_action, purchase = last_of(model, random_paths(8, 30))
    assert next_action[:, 0].max() == 0
    assert torch.allclose(next_action.sum(1), torch.ones(8))
    assert ((purchase > 0) & (purchase < 1)).all()


def test_no_hash_has_a_row_of_its_own_and_all_others_stay_in_the_table() -> None:
    hashes = torch.tensor([0, 1, 15, 16, 2**63 - 1])
    rows = fold(hashes, 16)
    assert rows.tolist() == [0, 2, 1, 2, 1 + (2**63 - 1) % 15]


def test_repeats_count_the_steps_before_with_the_same_item() -> None:
    item = torch.tensor([[5, 7, 5, 0, 5, 0]])
    assert repeats(item).tolist() == [[0, 0, 1, 0, 2, 0]]


@pytest.fixture(scope="module")
def exported(model: PathModel) -> bytes:
    return to_onnx(model, STEPS)


@pytest.fixture(scope="module")
def session(exported: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_exported_model_says_what_the_trained_one_says(
    model: PathModel, session: onnxruntime.InferenceSession, batch: int
) -> None:
    for time in range(1, STEPS + 1):
        paths = random_paths(batch, time)
        next_action, purchase = session.run(None, {"paths": paths})
        expected = last_of(model, paths)
        assert next_action.shape == (batch, ACTION_COUNT)
        assert purchase.shape == (batch,)
        np.testing.assert_allclose(next_action, expected[0], atol=1e-5)
        np.testing.assert_allclose(purchase, expected[1], atol=1e-5)


def test_padding_up_to_a_bucket_changes_no_score(session: onnxruntime.InferenceSession) -> None:
    for length, bucket in product((1, 5, 8), BUCKETS):
        paths = random_paths(4, length, full=True)
        padded = np.zeros((4, FEATURES, bucket), np.int64)
        padded[:, :, :length] = paths
        for a, b in zip(
            session.run(None, {"paths": paths}), session.run(None, {"paths": padded}), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_exported_file_is_self_contained_and_keeps_the_place_of_its_making_to_itself(
    exported: bytes,
) -> None:
    assert len(exported) < 3_000_000
    graph = onnx.load_from_string(exported)
    assert not any(weight.external_data for weight in graph.graph.initializer)
    assert b".py" not in exported


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="width 50"):
        ModelConfig(width=50, heads=2)
