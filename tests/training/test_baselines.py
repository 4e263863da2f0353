"""Baselines count; these tables are small enough to count again by hand."""

import numpy as np
import pytest

from clickpath.vocabulary import ACTION_COUNT
from training.baselines import PRIOR, contexts, fit
from training.dataset import Part
from training.labels import UNKNOWN


def part(actions: list[int], following: list[int], purchase: list[int]) -> Part:
    paths = np.zeros((1, 6, len(actions)), np.int64)
    paths[0, 0] = actions
    labels = {"next_action": np.array([following]), "purchase": np.array([purchase])}
    return Part.of(paths, labels)


def test_the_context_of_a_step_is_itself_and_those_before_it_but_none_after() -> None:
    actions = np.array([[3, 4, 5]])
    assert contexts(actions, 0).tolist() == [[0, 0, 0]]
    assert contexts(actions, 1).tolist() == [[3, 4, 5]]
    a = ACTION_COUNT
    assert contexts(actions, 2).tolist() == [[3 * a, 4 * a + 3, 5 * a + 4]]


def test_each_order_counts_and_leans_on_the_order_below() -> None:
    baselines = fit(part([1, 2, 1, 2], [2, 1, 2, 0], [1, 1, 0, UNKNOWN]))
    uniform = 1 / (ACTION_COUNT - 1)
    popularity = baselines["popularity"]
    p2 = (2 + PRIOR * uniform) / (3 + PRIOR)
    assert popularity.next_action[0, 2] == pytest.approx(p2)
    assert popularity.next_action[0, 0] == 0
    assert popularity.purchase[0] == pytest.approx((2 + PRIOR / 2) / (3 + PRIOR))
    markov1 = baselines["markov1"]
    assert markov1.next_action[1, 2] == pytest.approx((2 + PRIOR * p2) / (2 + PRIOR))
    assert markov1.next_action[7] == pytest.approx(popularity.next_action[0])
    markov2 = baselines["markov2"]
    after_1_then_2 = markov1.next_action[2, 1]
    assert markov2.next_action[2 * ACTION_COUNT + 1, 1] == pytest.approx(
        (1 + PRIOR * after_1_then_2) / (1 + PRIOR)
    )


def test_a_baseline_answers_for_the_last_step_of_each_path() -> None:
    one = part([1, 2, 1, 2], [2, 1, 2, 0], [1, 1, 0, UNKNOWN])
    for baseline in fit(one).values():
        next_action, purchase = baseline.predict(one)
        assert next_action.shape == (1, ACTION_COUNT)
        assert next_action.sum() == pytest.approx(1)
        assert purchase.shape == (1,)
    next_action, _ = fit(one)["markov1"].predict(one)
    assert next_action[0].argmax() == 1
