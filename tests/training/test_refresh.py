"""Before and after the training proper: foretelling without labels, and a refresh with LoRA."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clickpath.errors import UsageError
from training.build import Recipe, build
from training.corpus import Simulated
from training.dataset import Part
from training.examples import PARTS
from training.form import ModelConfig
from training.heads import vocabulary_of
from training.labels import UNKNOWN
from training.model import PathModel
from training.refresh import OldAndNew, refreshed
from training.stages import NextEvents, foretold, hidden
from training.train import Tick, TrainConfig, train

SMALL = ModelConfig(heads=("next_action", "next_item", "purchase"), hidden=48)
LOOP = TrainConfig(epochs=2, batch=16)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    folder = tmp_path_factory.mktemp("examples")
    dataset = build(Simulated(6_000, 100, 5), folder, Recipe(), lambda _: None)
    return [dataset.part(name) for name in PARTS]


def path_of(actions: list[int], items: list[int]) -> Part:
    paths = np.zeros((1, 6, len(actions)), np.int64)
    paths[0, 0], paths[0, 1] = actions, items
    return Part.of(paths)


def test_each_step_foretells_the_next_action_and_the_next_item_that_comes() -> None:
    batch = foretold(path_of([3, 4, 5, 0], [7, 0, 9, 0]).whole())
    assert batch.labels["next_action"].tolist() == [[4, 5, 0]]
    assert batch.labels["next_item"].tolist() == [[9, 9, 0]]
    assert (batch.labels["purchase"] == UNKNOWN).all()


def test_hidden_steps_are_told_themselves_and_nothing_else_is() -> None:
    plain = path_of([3] * 200, [7] * 200).whole()
    batch = hidden(plain, 0.3, np.random.default_rng(1))
    gone = batch.paths[0, 0] == 0
    assert 30 < gone.sum() < 90
    assert ((batch.labels["next_action"][0] == 3) == gone).all()
    assert ((batch.labels["next_item"][0] == 7) == gone).all()
    assert (batch.paths[0, 1] == np.where(gone, 0, 7)).all()


@pytest.mark.parametrize("masked", [0.0, 0.3])
def test_pretraining_lowers_the_loss_without_any_label(parts: list[Part], masked: float) -> None:
    torch.manual_seed(1)
    model = PathModel(SMALL, vocabulary_of(parts[0], SMALL))
    unlabelled = [Part.of(part.whole().paths) for part in parts[:2]]
    losses = train(model, *(NextEvents(part, masked) for part in unlabelled), LOOP).epochs
    assert losses[1].heads["next_action"] < losses[0].heads["next_action"] < np.log(22)
    assert losses[1].heads["purchase"] == 0


def test_a_refresh_learns_the_new_within_its_budget_and_changes_no_table_of_tokens(
    parts: list[Part],
) -> None:
    train_part, valid_part, _ = parts
    torch.manual_seed(1)
    model = train(PathModel(SMALL, vocabulary_of(train_part, SMALL)), *parts[:2], LOOP).model
    before = {name: of.clone() for name, of in model.state_dict().items()}
    every = valid_part.whole()  # in the new days everyone does the same
    new = Part.of(every.paths, {"next_action": np.where(every.labels["next_action"], 5, 0)})
    steps: list[int] = []

    def count(of: object) -> None:
        if isinstance(of, Tick):
            steps.append(of.step)

    loop = replace(LOOP, rate=1e-2, epochs=3)
    after = refreshed(model, (new, new), train_part, 400, loop, count).state_dict()
    assert 0 < len(steps) <= 40
    assert after.keys() == before.keys()
    assert torch.equal(after["embed.item.weight"], before["embed.item.weight"])
    changed = after["heads.next_action.weight"] - before["heads.next_action.weight"]
    assert 0 < torch.linalg.matrix_rank(changed) <= 8


def test_a_first_training_of_a_few_steps_is_too_little_for_a_refresh(
    parts: list[Part],
) -> None:
    model = PathModel(SMALL, vocabulary_of(parts[0], SMALL))
    with pytest.raises(UsageError, match=r"took 6 steps, too few .* --method full"):
        refreshed(model, (parts[1], parts[1]), parts[0], 6, LOOP)


def test_old_and_new_examples_come_in_turns_up_to_the_budget(parts: list[Part]) -> None:
    new, old = parts[1], parts[0]
    mixed = OldAndNew(new, old, most=64)
    batches = list(mixed.batches(16, 1))
    assert len(mixed) == sum(map(len, batches)) == 64
    users = {*new.whole().users.tolist()}
    assert {*batches[0].users.tolist()} <= users
