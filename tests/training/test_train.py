"""The loop: repeatable, able to learn what is there, and nothing that is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clickpath.errors import FatalError, UsageError
from serving.outputs import Outputs
from training import baselines
from training.build import Recipe, build
from training.corpus import Simulated
from training.dataset import Part
from training.examples import PARTS, Sampling
from training.form import ModelConfig
from training.heads import teachable, vocabulary_of
from training.model import PathModel
from training.predict import measure, predict
from training.standing import STANDING_FILE, Epoch
from training.train import Tick, TrainConfig, Trained, disguised, rate_at, train

SMALL = ModelConfig(heads=("next_action", "purchase", "leave"), hidden=48, items=64)
EVERY = replace(SMALL, heads=("next_action", "next_item", "purchase"))
QUICK = TrainConfig(epochs=14, patience=4, batch=16, rate=5e-3, disguise=0.5)


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    folder = tmp_path_factory.mktemp("examples")
    recipe = Recipe(sampling=Sampling(share=1.0))
    dataset = build(Simulated(16_000, 400, 5), folder, recipe, lambda _: None)
    return [dataset.part(name) for name in PARTS]


@pytest.fixture(scope="module")
def few(parts: list[Part]) -> list[Part]:
    """A hundred examples of each part."""

    def first(part: Part) -> Part:
        batch = next(part.batches(100))
        return Part.of(batch.paths, batch.labels)

    return [first(part) for part in parts]


def fresh(part: Part, config: ModelConfig = SMALL, seed: int = 1) -> PathModel:
    torch.manual_seed(seed)
    return PathModel(config, vocabulary_of(part, config))


def log_loss(part: Part, said: Outputs) -> float:
    return measure(part, said)["next_action"]["log_loss"]


def test_it_learns_more_than_pairs_of_actions_tell(parts: list[Part]) -> None:
    train_part, valid_part, test_part = parts
    trained = train(fresh(train_part), train_part, valid_part, QUICK)
    best_count = min(
        log_loss(test_part, b.predict(test_part)) for b in baselines.fit(train_part).values()
    )
    assert log_loss(test_part, predict(trained.model, test_part)) < best_count


def test_from_shuffled_labels_it_learns_nothing(parts: list[Part]) -> None:
    train_part, valid_part, test_part = parts
    rng = np.random.default_rng(1)

    def shuffled(part: Part) -> Part:
        every = part.whole()
        labels = every.labels["next_action"].copy()
        known = labels != 0
        labels[known] = rng.permutation(labels[known])
        return Part.of(every.paths, {**every.labels, "next_action": labels})

    fair = baselines.fit(train_part)["popularity"]
    # No other head: what the trunk learns from their labels would tell something after all.
    model = fresh(train_part, replace(SMALL, heads=("next_action",)))
    quick = replace(QUICK, epochs=5)
    model = train(model, shuffled(train_part), shuffled(valid_part), quick).model
    said = predict(model, test_part)
    # Nothing that says the same of every path does better than the shares of the test part.
    came = np.bincount(test_part.last_labels()["next_action"])[1:]
    shares = came[came > 0] / came.sum()
    assert log_loss(test_part, said) > -(shares * np.log(shares)).sum() - 0.01
    accuracy = measure(test_part, said)["next_action"]["accuracy"]
    most = measure(test_part, fair.predict(test_part))["next_action"]["accuracy"]
    assert accuracy < most + 0.02


def assert_equal_to_the_bit(one: Trained, two: Trained) -> None:
    assert one.best == two.best
    for a, b in zip(one.epochs, two.epochs, strict=True):
        assert a._replace(seconds=0) == b._replace(seconds=0)
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_same_seed_gives_the_same_weights_to_the_bit(few: list[Part]) -> None:
    config = TrainConfig(epochs=2, batch=16)
    one, two = (train(fresh(few[0], EVERY), few[0], few[1], config) for _ in range(2))
    assert_equal_to_the_bit(one, two)


@pytest.mark.parametrize("stop", [1, 6, 7, 9, 17])
def test_a_loop_that_was_stopped_goes_on_to_the_same_bits(
    few: list[Part], tmp_path: Path, stop: int
) -> None:
    config = TrainConfig(epochs=3, batch=16, save_steps=3)
    steps: list[int] = []

    def until_stopped(of: Tick | Epoch) -> None:
        if isinstance(of, Tick) and of.step == stop:
            raise StoppedError

    def counting(of: Tick | Epoch) -> None:
        if isinstance(of, Tick):
            steps.append(of.step)

    never = train(fresh(few[0], EVERY), few[0], few[1], config)
    with pytest.raises(StoppedError):
        train(fresh(few[0], EVERY), few[0], few[1], config, until_stopped, folder=tmp_path)
    stranger = fresh(few[0], EVERY, seed=99) if stop > 3 else fresh(few[0], EVERY)
    again = train(stranger, few[0], few[1], config, counting, folder=tmp_path)
    assert_equal_to_the_bit(never, again)
    assert steps[-1] == 21
    assert steps[0] > stop - 3


def test_a_standing_of_another_run_is_refused(few: list[Part], tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, batch=64)
    train(fresh(few[0]), few[0], few[1], config, folder=tmp_path)
    for other, plan in ((replace(config, rate=0.1), ""), (config, "another corpus")):
        with pytest.raises(UsageError, match="is of a run with other data"):
            train(fresh(few[0]), few[0], few[1], other, folder=tmp_path, plan=plan)
    (tmp_path / STANDING_FILE).write_bytes(b"no tensors")
    with pytest.raises(UsageError, match="cannot be read"):
        train(fresh(few[0]), few[0], few[1], config, folder=tmp_path)


def test_the_weights_kept_are_those_of_the_best_epoch_on_validation_data(
    few: list[Part],
) -> None:
    config = TrainConfig(epochs=8, rate=0.03, patience=2, warm_up=0.01, batch=16)
    trained = train(fresh(few[0]), few[0], few[1], config)
    losses = [epoch.valid_loss for epoch in trained.epochs]
    assert trained.best == 1 + losses.index(min(losses))
    assert len(losses) == min(8, trained.best + 2)
    figures = measure(few[1], predict(trained.model, few[1]))
    best = trained.epochs[trained.best - 1].heads
    assert figures["next_action"]["log_loss"] == pytest.approx(best["next_action"], abs=1e-4)


def test_a_loss_that_is_no_number_ends_the_loop_with_one_sentence_and_keeps_the_standing(
    few: list[Part], tmp_path: Path
) -> None:
    config = TrainConfig(epochs=3, batch=16, rate=float("inf"), warm_up=0.0, save_steps=1)
    with pytest.raises(FatalError, match=r"became nan in step \d+: train again with a lower rate"):
        train(fresh(few[0]), few[0], few[1], config)
    with pytest.raises(FatalError, match="the last good standing is kept in"):
        train(fresh(few[0]), few[0], few[1], config, folder=tmp_path)


def test_too_little_memory_ends_the_loop_with_one_sentence(few: list[Part]) -> None:
    class Greedy(PathModel):
        def states(self, paths: torch.Tensor) -> None:  # type: ignore[override]
            torch.empty(1 << 60, dtype=torch.float32)

    model = Greedy(SMALL, vocabulary_of(few[0], SMALL))
    with pytest.raises(FatalError, match="out of memory with 64 examples a step: train with a"):
        train(model, few[0], few[1], TrainConfig())


def test_only_heads_with_labels_of_both_kinds_are_taught(few: list[Part]) -> None:
    batch = few[0].whole()
    never = np.where(batch.labels["purchase"] == 1, 0, batch.labels["purchase"])
    part = Part.of(batch.paths, {"next_action": batch.labels["next_action"], "purchase": never})
    assert teachable(part, ("next_action", "next_item", "purchase")) == ("next_action",)
    assert "purchase" in teachable(few[0], ("next_action", "purchase"))


def test_the_rate_rises_then_falls_to_nothing() -> None:
    assert rate_at(0.0, 0.1) < 0.02
    assert rate_at(0.1, 0.1) == 1.0
    assert rate_at(0.55, 0.1) == pytest.approx(0.5)
    assert rate_at(1.0, 0.1) == pytest.approx(0.0)


def test_disguised_items_are_others_but_equal_ones_stay_equal() -> None:
    paths = np.zeros((1, 6, 4), np.int64)
    paths[0, 0, :3] = 1
    paths[0, 1] = [7, 9, 7, 0]
    batch = Part.of(paths, {"next_item": np.array([[9, 7, 3, 0]])}).whole()
    other = disguised(batch, 1.0, np.random.default_rng(1))
    items = other.paths[0, 1]
    assert items[0] == items[2] > 0
    assert items[1] not in (0, 9, items[0])
    assert not other.labels["next_item"].any()
    plain = disguised(batch, 0.0, np.random.default_rng(1))
    assert np.array_equal(plain.paths, batch.paths)
    assert np.array_equal(plain.labels["next_item"], batch.labels["next_item"])
