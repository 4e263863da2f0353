"""The model: causal, blind to padding, the same step by step, and equal to what is exported."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from clickpath.encoding import FEATURES
from clickpath.vocabulary import ACTION_COUNT
from serving.outputs import output_names
from training.dataset import Part
from training.export import only, to_onnx
from training.form import CONTEXT, KIND, ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel, before, repeats
from training.predict import outputs_of, predict

STEPS = 50
BUCKETS = (8, 16, 32, 50)
ITEMS = np.random.default_rng(5).integers(1, 2**63 - 1, 40)
CATEGORIES = np.random.default_rng(6).integers(1, 2**63 - 1, 30)
QUICK_HEADS = ("next_action", "purchase", "leave")


def random_paths(batch: int, time: int, seed: int = 0, full: bool = False) -> NDArray[np.int64]:
    """Paths of all lengths up to `time`, with items that come again, a few of them unknown."""
    rng = np.random.default_rng([seed, batch, time])
    paths = np.zeros((batch, FEATURES, time), np.int64)
    items = np.concatenate([rng.choice(ITEMS, 5), rng.integers(1, 2**63 - 1, 3)])
    for row in paths:
        n = time if full else rng.integers(1, time + 1)
        row[0, :n] = rng.integers(1, ACTION_COUNT, n)
        row[1, :n] = rng.choice(items, n) * (rng.random(n) < 0.7)
        row[2, :n] = rng.choice(CATEGORIES, n)
        row[3, :n] = rng.integers(0, 42, n)
        row[4, :n] = rng.integers(0, 50, n)
        row[5, :n] = np.minimum(np.arange(1, n + 1), 63)
    return paths


@pytest.fixture(scope="module")
def model() -> PathModel:
    torch.manual_seed(1)
    config = ModelConfig(width=32, hidden=48, shared_items=8, shared_categories=4)
    made = PathModel(config, Vocabulary(ITEMS, CATEGORIES)).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("bias"):  # at first they are 0, where a mistake would not show
                weight.normal_()
    return made


def test_every_head_speaks_after_every_step(model: PathModel) -> None:
    said = model(torch.from_numpy(random_paths(3, 20)))
    shapes = {name: tuple(of.shape) for name, of in said.items()}
    assert shapes == {
        "next_action": (3, 20, ACTION_COUNT),
        "next_category": (3, 20, len(CATEGORIES) + 1),
        "next_item": (3, 20, len(ITEMS) + 1),
        **dict.fromkeys(("purchase", "leave", "return_7d", "repeat_purchase"), (3, 20)),
    }


def test_what_is_said_after_a_step_does_not_depend_on_later_steps(model: PathModel) -> None:
    paths = random_paths(3, 20, full=True)
    other = paths.copy()
    other[:, :, 12:] = random_paths(3, 20, seed=9, full=True)[:, :, 12:]
    with torch.inference_mode():
        one, two = (model(torch.from_numpy(p)) for p in (paths, other))
    for name in one:
        torch.testing.assert_close(one[name][:, :12], two[name][:, :12], atol=1e-5, rtol=0)
        assert not torch.allclose(one[name][:, 12:], two[name][:, 12:], atol=1e-3)


@pytest.mark.parametrize("piece", [1, 7, 40])
def test_going_on_step_by_step_says_what_a_pass_over_the_whole_session_says(
    model: PathModel, piece: int
) -> None:
    paths = torch.from_numpy(random_paths(3, 140, full=True))
    assert paths.shape[2] > 2 * model.config.reach
    memory = None
    pieces: list[dict[str, torch.Tensor]] = []
    with torch.inference_mode():
        for start in range(0, paths.shape[2], piece):
            states, memory = model.go_on(paths[:, :, start : start + piece], memory)
            pieces.append({name: model.say(name, states) for name in model.config.heads})
        whole = model(paths)
    for name, of in whole.items():
        together = torch.cat([each[name] for each in pieces], 1)
        torch.testing.assert_close(together, of, atol=1e-4, rtol=0)
    assert memory is not None
    window = model.config.attention_window
    assert all(layer.keys.shape[2] == window - 1 for layer in memory.cache.layers)


def test_the_newest_steps_say_what_the_whole_session_says(model: PathModel) -> None:
    session = random_paths(3, 140, full=True)
    path = session[:, :, -STEPS:].copy()
    path[:, 4, 0] = 0  # as the encoder has it: the first kept step has no gap,
    path[:, 5] = np.arange(1, STEPS + 1)  # and places in the session are counted from there
    assert model.config.reach <= STEPS
    with torch.inference_mode():
        whole, newest = model(torch.from_numpy(session)), model(torch.from_numpy(path))
    for name in whole:
        torch.testing.assert_close(newest[name][:, -1], whole[name][:, -1], atol=1e-4, rtol=0)


def test_nothing_and_padding_are_never_next(model: PathModel) -> None:
    said = model(torch.from_numpy(random_paths(8, 30)))
    for name, of in said.items():
        if KIND[name] != "binary":
            assert of.softmax(-1)[..., 0].max() == 0


def test_repeats_count_the_steps_before_with_the_same_item_within_the_context() -> None:
    item = torch.tensor([[5, 7, 5, 0, 5, 0]])
    assert repeats(before(item)).tolist() == [[0, 0, 1, 0, 2, 0]]
    far = torch.tensor([[5, *[0] * (CONTEXT - 2), 5, *[0] * (CONTEXT - 1), 5]])
    assert repeats(before(far))[0, CONTEXT - 1] == 1
    assert repeats(before(far))[0, -1] == 0


def test_a_few_tokens_get_the_logits_that_they_have_among_all(model: PathModel) -> None:
    states = model.states(torch.from_numpy(random_paths(4, 30, full=True)))
    head = model.heads["next_item"]
    chosen = states.at(torch.rand(4, 30) < 0.5)
    table, rows = model.token_table("next_item"), torch.tensor([1, 7, 40])
    some = head.some(chosen.x, table, chosen.item_rows, rows)
    torch.testing.assert_close(some, model.say("next_item", chosen)[:, rows])
    each = rows[torch.randint(0, 3, (len(chosen.x), 2))]
    torch.testing.assert_close(
        head.some(chosen.x, table, chosen.item_rows, each),
        model.say("next_item", chosen).gather(1, each),
    )


def test_a_title_speaks_for_an_item_that_nobody_has_clicked() -> None:
    torch.manual_seed(2)
    config = ModelConfig(text_width=5, heads=("next_item",))
    model = PathModel(config, Vocabulary(np.array([11, 12, 13]), CATEGORIES))
    with torch.no_grad():
        model.embed.item.weight[1:4] = 0.0
        model.embed.get_buffer("titles")[1:4] = torch.tensor(
            [[1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 1.0, 0, 0]]
        )
    paths = random_paths(1, 5, full=True)
    paths[0, 1] = 0
    logits = model.eval()(torch.from_numpy(paths))["next_item"][0, -1]
    assert logits[1] == logits[2] != logits[3]
    model.train()
    named = model.embed.item_vectors(torch.full((200, 1), 1))
    assert torch.equal(named[0], named[1])  # here the id adds nothing: both are the title's


@pytest.fixture(scope="module")
def exported(model: PathModel) -> bytes:
    return to_onnx(model, STEPS)


@pytest.fixture(scope="module")
def session(exported: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def quick(exported: bytes) -> bytes:
    return only(exported, QUICK_HEADS)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_exported_model_says_what_the_trained_one_says(
    model: PathModel, session: onnxruntime.InferenceSession, quick: bytes, batch: int
) -> None:
    short = onnxruntime.InferenceSession(quick, providers=["CPUExecutionProvider"])
    for time in (*range(1, STEPS, 4), STEPS):
        paths = random_paths(batch, time)
        expected = predict(model, Part.of(paths))
        names = output_names(model.config.heads)
        said = dict(zip(names, session.run(names, {"paths": paths}), strict=True))
        for name in names:
            assert said[name].shape == expected[name].shape
            if not name.endswith("_token"):
                np.testing.assert_allclose(said[name], expected[name], atol=1e-5)
        for name, of in zip(QUICK_HEADS, short.run(QUICK_HEADS, {"paths": paths}), strict=True):
            np.testing.assert_allclose(of, expected[name], atol=1e-5)


def test_the_tokens_of_a_list_are_those_with_the_probabilities_beside_them(
    model: PathModel, session: onnxruntime.InferenceSession
) -> None:
    paths = random_paths(7, 30)
    names = ["next_item", "next_item_token"]
    probability, token = session.run(names, {"paths": paths})
    with torch.inference_mode():
        states = model.states(torch.from_numpy(paths))
        last = torch.zeros(7, 30, dtype=torch.bool)
        last[torch.arange(7), torch.from_numpy((paths[:, 0] != 0).sum(1) - 1)] = True
        every = model.say("next_item", states.at(last)).softmax(-1)
        rows = model.tokens("next_item")(torch.from_numpy(token))
    np.testing.assert_allclose(every.gather(1, rows), probability, atol=1e-5)
    assert {*token.flatten().tolist()} <= {*ITEMS.tolist()}
    assert (np.diff(probability, axis=1) <= 0).all()
    assert {*outputs_of(model, states.at(last))} == {*output_names(model.config.heads)}


def test_padding_up_to_a_bucket_changes_no_score(session: onnxruntime.InferenceSession) -> None:
    for length, bucket in product((1, 5, 8), BUCKETS):
        paths = random_paths(4, length, full=True)
        padded = np.zeros((4, FEATURES, bucket), np.int64)
        padded[:, :, :length] = paths
        names = ["next_action", "purchase", "next_item"]
        for a, b in zip(
            session.run(names, {"paths": paths}), session.run(names, {"paths": padded}), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_exported_file_is_self_contained_and_keeps_the_place_of_its_making_to_itself(
    quick: bytes,
) -> None:
    assert len(quick) < 3_000_000
    graph = onnx.load_from_string(quick)
    assert not any(weight.external_data for weight in graph.graph.initializer)
    assert b".py" not in quick


def test_a_form_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="width 50"):
        ModelConfig(width=50, attention_heads=2)
    with pytest.raises(ValueError, match="no head 'mood'"):
        ModelConfig(heads=("mood",))
