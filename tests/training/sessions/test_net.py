"""The next-item model: its loss, its tables, and what it may not see."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.sessions.covisits import (
    Table,
    TableConfig,
    build_table,
    session_weights,
    start_of_embeddings,
)
from training.sessions.fit import FitConfig, fit, fit_scales, padded
from training.sessions.log import Sessions
from training.sessions.net import NetConfig, NextItem
from training.sessions.softmax import cross_entropy, fastest_type

LOG = Sessions.of([[1, 2, 3], [3, 1, 2, 1], [4, 5], [5, 4, 6], [1, 3]])
ROWS = 8
SMALL = NetConfig(width=16, layers=1, heads=2, copy_width=4, steps=6, last=3)


def table(config: TableConfig | None = None) -> Table:
    return build_table(LOG, ROWS, config or TableConfig(neighbours=4, window=3))


def small_model() -> NextItem:
    torch.manual_seed(0)
    return NextItem(SMALL, start_of_embeddings(LOG, ROWS, 16, 0), table()).eval()


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


def test_a_session_finds_none_of_its_own_pairs_in_the_table() -> None:
    """The table of all sessions less a session's own pairs is the table without the session."""
    config = TableConfig(neighbours=ROWS, window=3, age_decay=1e9, rarity=0.0)
    weights = torch.from_numpy(session_weights(LOG, config)).float()
    model = NextItem(SMALL, torch.eye(ROWS, 16), table(config))
    for left_out in range(len(LOG)):
        others = [LOG[i].tolist() for i in range(len(LOG)) if i != left_out]
        without = NextItem(
            SMALL, torch.eye(ROWS, 16), build_table(Sessions.of(others), ROWS, config)
        )
        session = torch.from_numpy(LOG[left_out])[None]
        last = session.shape[1] - 2
        places = (torch.tensor([0]), torch.tensor([last]))
        row, item, sums, totals = model._sums(
            session[:, :-1], places, None, ROWS, weights[[left_out]], session
        )
        _, plain_item, plain, plain_totals = without._sums(
            session[:, :-1], places, None, ROWS, None, None
        )
        assert torch.allclose(totals, plain_totals, atol=1e-4)
        assert set(row.tolist()) <= {0}
        for mine, expected in zip(sums, plain, strict=True):
            dense = torch.zeros(2, ROWS)
            dense[0, item], dense[1, plain_item] = mine, expected
            assert torch.allclose(dense[0], dense[1], atol=1e-4)


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
        pairs = TableConfig(neighbours=4, window=3)
        start = start_of_embeddings(log, ROWS, 16, 0)
        model = NextItem(SMALL, start, build_table(log, ROWS, pairs))
        fitted = fit(model, log, pairs, config, 1e9)
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

    pairs = TableConfig(neighbours=4, window=3)
    fit(model, LOG, pairs, FitConfig(epochs=40, targets=8, drawn=4), 1e9, judge=judge)
    assert len(seen) == 3
    assert torch.equal(model.vectors, seen[0])
    assert not torch.equal(seen[0], seen[1])


def test_only_the_scales_are_fitted_on_held_out_sessions() -> None:
    model = small_model()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    fit_scales(model, LOG, FitConfig())
    changed = {n for n, each in model.state_dict().items() if not torch.equal(each, before[n])}
    assert changed == {"scales"}
    assert not model.scales.requires_grad


def test_a_batch_keeps_the_newest_clicks() -> None:
    assert padded(LOG, torch.tensor([1, 2]).numpy(), 3).tolist() == [[1, 2, 1], [4, 5, 0]]
