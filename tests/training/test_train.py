"""The loop: repeatable, able to learn what is there, and nothing that is not."""

import numpy as np
import pytest
import torch

from clickpath.errors import FatalError
from training import baselines
from training.build import Recipe, build
from training.corpus import Simulated
from training.dataset import Part
from training.examples import PARTS, Sampling
from training.model import ModelConfig
from training.train import TrainConfig, disguised, measure, predict, rate_at, train

SMALL = ModelConfig(width=32, layers=2, heads=2, hidden=48, items=256, categories=32)
QUICK = TrainConfig(epochs=14, patience=4, batch=16, rate=5e-3, disguise=0.5)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    folder = tmp_path_factory.mktemp("examples")
    recipe = Recipe(sampling=Sampling(share=1.0))
    dataset = build(Simulated(16_000, 400, 5), folder, recipe, lambda _: None)
    return [dataset.part(name) for name in PARTS]


def log_loss(part: Part, said: tuple[np.ndarray, np.ndarray]) -> float:
    return measure(part, said)["next_action"]["log_loss"]


def test_it_learns_more_than_pairs_of_actions_tell(parts: list[Part]) -> None:
    train_part, valid_part, test_part = parts
    trained = train(train_part, valid_part, SMALL, QUICK)
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
    model = train(shuffled(train_part), shuffled(valid_part), SMALL, QUICK).model
    said = predict(model, test_part)
    # Nothing that says the same of every path does better than the shares of the test part.
    came = np.bincount(test_part.last_labels()["next_action"])[1:]
    shares = came[came > 0] / came.sum()
    assert log_loss(test_part, said) > -(shares * np.log(shares)).sum() - 0.01
    accuracy = measure(test_part, said)["next_action"]["accuracy"]
    assert accuracy < measure(test_part, fair.predict(test_part))["next_action"]["accuracy"] + 0.02


def test_the_same_seed_gives_the_same_weights_to_the_bit(parts: list[Part]) -> None:
    config = TrainConfig(epochs=1)
    one, two = (train(parts[0], parts[1], SMALL, config).model for _ in range(2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_weights_kept_are_those_of_the_best_epoch_on_validation_data(
    parts: list[Part],
) -> None:
    config = TrainConfig(epochs=8, rate=0.02, patience=2, warm_up=0.01)
    trained = train(parts[0], parts[1], SMALL, config)
    losses = [epoch.valid_loss for epoch in trained.epochs]
    assert trained.best == 1 + losses.index(min(losses))
    assert len(losses) <= trained.best + config.patience


def test_a_loss_that_is_no_number_ends_with_one_sentence(parts: list[Part]) -> None:
    with pytest.raises(FatalError, match="the loss became nan in epoch 1, step"):
        train(parts[0], parts[1], SMALL, TrainConfig(epochs=1, rate=float("inf"), warm_up=0.0))


def test_the_rate_rises_then_falls_to_nothing() -> None:
    assert rate_at(0.0, 0.1) < 0.02
    assert rate_at(0.1, 0.1) == 1.0
    assert rate_at(0.55, 0.1) == pytest.approx(0.5)
    assert rate_at(1.0, 0.1) == pytest.approx(0.0)


def test_disguised_items_are_others_but_equal_ones_stay_equal() -> None:
    paths = np.zeros((1, 6, 4), np.int64)
    paths[0, 1] = [7, 9, 7, 0]
    other = disguised(paths, 1.0, np.random.default_rng(1))[0, 1]
    assert other[0] == other[2] > 0
    assert other[1] not in (0, 9, other[0])
    assert other[3] == 0
    assert np.array_equal(disguised(paths, 0.0, np.random.default_rng(1)), paths)
