"""The path network: its loss, its training, and what it may not see."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.sessions.covisits import start_of_embeddings
from training.sessions.fit import FitConfig, fit, padded
from training.sessions.log import Sessions
from training.sessions.net import NetConfig, PathNet
from training.sessions.softmax import cross_entropy, fastest_type

LOG = Sessions.of([[1, 2, 3], [3, 1, 2, 1], [4, 5], [5, 4, 6], [1, 3]])
ROWS = 8
SMALL = NetConfig(width=16, layers=1, heads=2, copy_width=4, steps=6)


def small_model() -> PathNet:
    torch.manual_seed(0)
    return PathNet(SMALL, start_of_embeddings(LOG, ROWS, 16, 0)).eval()


def test_the_loss_and_its_gradients_are_those_of_a_plain_softmax() -> None:
    torch.manual_seed(0)
    h, e = torch.randn(5, 8), torch.randn(7, 8)
    bias, values = torch.randn(7), torch.randn(7)
    rows, columns = torch.tensor([0, 0, 1, 1, 3, 4, 4]), torch.tensor([1, 1, 3, 6, 2, 0, 6])
    target, weight = torch.tensor([1, 2, 3, 2, 6]), torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0])
    given = [each.requires_grad_() for each in (h, e, bias, values)]
    logits = (h @ e.T + bias).view(-1).index_add(0, rows * 7 + columns, values).view(5, 7)
    plain = (functional.cross_entropy(logits, target, reduction="none") * weight).sum() / 5.5
    expected = torch.autograd.grad(plain, given)
    ours = cross_entropy(h, e, bias, rows, columns, values, target, weight)
    tolerance = 1e-5 if fastest_type() == torch.float32 else 0.03
    assert ours.item() == pytest.approx(plain.item(), rel=tolerance)
    for one, other in zip(torch.autograd.grad(ours, given), expected, strict=True):
        assert torch.allclose(one, other, atol=tolerance)


def test_a_step_knows_nothing_of_later_clicks() -> None:
    model = small_model()
    scores = model(torch.tensor([[1, 2, 0], [1, 2, 4]]), torch.tensor([2, 2]))
    assert torch.allclose(scores[0], scores[1], atol=1e-5)


def test_scores_do_not_depend_on_the_batch() -> None:
    model = small_model()
    together = model(torch.tensor([[1, 2, 3], [5, 0, 0]]), torch.tensor([3, 1]))
    alone = model(torch.tensor([[5]]), torch.tensor([1]))
    assert torch.allclose(together[1], alone[0], atol=1e-5)
    assert (together[:, 0] < -1000).all()


def test_items_clicked_together_start_close() -> None:
    start = start_of_embeddings(Sessions.of([[1, 2], [2, 1], [3, 4], [4, 3]] * 9), 6, 4, 0)
    assert start.shape == (6, 4)
    assert torch.allclose(start.norm(dim=1), torch.ones(6), atol=1e-5)


def test_training_lowers_the_loss_and_comes_out_alike_with_a_seed() -> None:
    log = Sessions.of([[1, 2, 3], [4, 5, 6]] * 30)
    config = FitConfig(epochs=30, targets=60, drawn=4, rate=0.01, averaging=0.5)
    finals = []
    for _ in range(2):
        torch.manual_seed(0)
        model = PathNet(SMALL, start_of_embeddings(log, ROWS, 16, 0))
        fitted = fit(model, log, config, 1e9)
        finals.append(model.vectors.clone())
        assert fitted.loss < 0.7
        scores = model(torch.tensor([[1, 2], [4, 5]]), torch.tensor([2, 2]))
        assert scores.argmax(1).tolist() == [3, 6]
    assert torch.allclose(*finals, atol=0.05)


def test_the_weights_that_were_judged_best_stay() -> None:
    model, seen, scores = small_model(), [], iter([3.0, 1.0, 2.0])

    def judge() -> float:
        seen.append(model.vectors.clone())
        return next(scores)

    fit(model, LOG, FitConfig(epochs=40, targets=8, drawn=4), 1e9, judge=judge)
    assert len(seen) == 3
    assert torch.equal(model.vectors, seen[0])
    assert not torch.equal(seen[0], seen[1])


def test_a_batch_keeps_the_newest_clicks() -> None:
    assert padded(LOG, torch.tensor([1, 2]).numpy(), 3).tolist() == [[1, 2, 1], [4, 5, 0]]
