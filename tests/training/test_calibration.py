"""Calibration: what is said becomes true, no order changes, and the weights hold it exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTION_COUNT
from training.calibration import (
    CALIBRATION_FILE,
    Scaling,
    calibrate,
    fitted,
    fold,
    read_calibration,
    write_calibration,
)
from training.dataset import Part
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel
from training.predict import predict

ROWS = 4_000


def test_a_head_that_is_too_sure_is_calmed() -> None:
    torch.manual_seed(1)
    honest = torch.randn(ROWS, 5)
    label = torch.distributions.Categorical(logits=honest).sample()
    scaling = fitted(3 * honest, label, binary=False)
    assert scaling.slope == pytest.approx(1 / 3, rel=0.1)
    assert scaling.shift == 0
    assert scaling.log_loss[1] < scaling.log_loss[0]
    assert scaling.ece[1] < 0.03 < scaling.ece[0]


def test_a_yes_that_is_said_too_often_is_shifted() -> None:
    torch.manual_seed(1)
    honest = torch.randn(ROWS) - 1
    label = torch.bernoulli(honest.sigmoid())
    scaling = fitted(honest + 2, label, binary=True)
    assert scaling.slope == pytest.approx(1, abs=0.15)
    assert scaling.shift == pytest.approx(-2, abs=0.3)


def test_what_is_calibrated_already_is_left_nearly_alone() -> None:
    torch.manual_seed(1)
    honest = torch.randn(ROWS)
    scaling = fitted(honest, torch.bernoulli(honest.sigmoid()), binary=True)
    assert scaling.slope == pytest.approx(1, abs=0.15)
    assert scaling.log_loss[1] <= scaling.log_loss[0]


def labelled() -> Part:
    rng = np.random.default_rng(1)
    paths = np.zeros((300, 6, 5), np.int64)
    paths[:, 0] = rng.integers(1, 5, (300, 5))
    paths[:, 1] = paths[:, 2] = rng.integers(1, 4, (300, 5))
    last = np.zeros((300, 5), np.int64)
    last[:, -1] = rng.integers(1, 4, 300)
    yes = np.full((300, 5), -1)
    yes[:, -1] = rng.integers(0, 2, 300)
    return Part.of(
        paths, {"next_action": last, "purchase": yes, "next_item": last, "next_category": last}
    )


HEADS = ("next_action", "purchase", "next_item", "next_category")


def untrained() -> PathModel:
    torch.manual_seed(1)
    tokens = np.arange(1, 4)
    model = PathModel(ModelConfig(heads=HEADS), Vocabulary(tokens, tokens))
    with torch.no_grad():
        for head in model.heads.values():
            for weight in head.parameters():
                weight.mul_(20)  # far too sure
    return model


def test_the_weights_of_every_head_hold_its_scaling() -> None:
    model, part = untrained(), labelled()
    paths = torch.from_numpy(part.whole().paths)
    with torch.inference_mode():
        before = model.eval()(paths)
    calibration = calibrate(model, part)
    assert {*calibration} == {*HEADS}
    with torch.inference_mode():
        after = model(paths)
    for name, scaling in calibration.items():
        assert scaling.log_loss[1] < scaling.log_loss[0]
        expected = before[name] * scaling.slope + scaling.shift
        possible = before[name] > -1e3  # what is never next stays so
        torch.testing.assert_close(after[name][possible], expected[possible], rtol=1e-4, atol=1e-4)
        assert (after[name][~possible] < -1e3).all()


def test_no_order_changes() -> None:
    model, part = untrained(), labelled()
    before = predict(model, part)
    calibrate(model, part)
    after = predict(model, part)
    assert np.array_equal(before["next_item_token"], after["next_item_token"])
    assert np.array_equal(before["next_action"].argmax(1), after["next_action"].argmax(1))
    assert np.array_equal(np.argsort(before["purchase"]), np.argsort(after["purchase"]))
    assert after["next_action"].shape == (300, ACTION_COUNT)


def test_a_head_with_few_labels_is_left_alone() -> None:
    few = labelled().whole()
    rows = np.arange(300) < 50
    labels = {
        name: np.where(rows[:, None], of, -1 if name == "purchase" else 0)
        for name, of in few.labels.items()
        if name in HEADS
    }
    assert calibrate(untrained(), Part.of(few.paths, labels)) == {}


def test_the_record_comes_back_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) == {}
    calibration = {"purchase": Scaling(0.5, -0.1, 300, (0.4, 0.3), (0.1, 0.01))}
    write_calibration(calibration, tmp_path)
    assert read_calibration(tmp_path) == calibration
    (tmp_path / CALIBRATION_FILE).write_text('{"purchase": 1}')
    with pytest.raises(ModelMismatch, match="no record of a calibration"):
        read_calibration(tmp_path)


def test_a_fold_of_nothing_changes_no_bit() -> None:
    head = torch.nn.Linear(3, 2)
    before = head.weight.clone()
    fold(head, Scaling(1.0, 0.0, 1, (0.0, 0.0), (0.0, 0.0)))
    assert torch.equal(head.weight, before)
