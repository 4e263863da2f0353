"""Metrics, against values worked out by hand and against scikit-learn."""

from math import isnan, log, log2

import numpy as np
import pytest
from sklearn import metrics as sklearn

from training.metrics import (
    BINS,
    Certainty,
    auc,
    binary,
    intervals,
    multiclass,
    of_classes,
    of_list,
    yes_or_no,
)

RNG = np.random.default_rng(5)
POSITIVE = RNG.random(400) < 0.3
#: Two digits, so that there are ties.
SCORE = np.round(np.clip(0.4 * POSITIVE + 0.6 * RNG.random(400), 0.01, 0.99), 2)
LABEL = RNG.integers(1, 5, 400)
PROBABILITY = RNG.dirichlet(np.ones(6), 400) + 0.3 * np.eye(6)[LABEL]
PROBABILITY /= PROBABILITY.sum(axis=1, keepdims=True)
WEIGHTS = RNG.integers(0, 4, 400).astype(float)


def test_auc_is_the_share_of_pairs_in_the_right_order_and_a_tie_is_half_a_pair() -> None:
    positive = np.array([True, False, True, False])
    assert auc(positive, np.array([0.9, 0.1, 0.8, 0.3])) == 1.0
    assert auc(positive, np.array([0.1, 0.9, 0.3, 0.8])) == 0.0
    assert auc(positive, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    # Pairs: (0.5 > 0.1), (0.5 = 0.5), (0.2 > 0.1), (0.2 < 0.5).
    assert auc(positive, np.array([0.5, 0.1, 0.2, 0.5])) == 2.5 / 4


def test_auc_of_one_class_alone_is_not_a_number() -> None:
    assert isnan(auc(np.array([True, True]), np.array([0.1, 0.2])))


def test_binary_log_loss_is_the_mean_surprise_in_nats() -> None:
    figures = binary(np.array([True, False]), np.array([0.8, 0.4]))
    assert figures["log_loss"] == pytest.approx(-(log(0.8) + log(0.6)) / 2)
    assert (figures["rate"], figures["n"]) == (0.5, 2)


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    assert 10 < binary(np.array([True]), np.array([0.0]))["log_loss"] < 20


def test_multiclass_figures() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    figures = multiclass(np.array([0, 1, 2, 2]), probability)
    assert figures["accuracy"] == 3 / 4
    assert figures["log_loss"] == pytest.approx(-(log(0.7) + log(0.4) + log(0.2) + log(0.7)) / 4)
    # One against the rest: class 0 and class 1 are in front of all others; of class 2 three pairs
    # in four are: 0.7 > 0.1, 0.7 > 0.3, 0.2 > 0.1, 0.2 < 0.3.
    assert figures["macro_auc"] == pytest.approx((1 + 1 + 3 / 4) / 3)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_figures_of_yes_or_no_are_those_of_scikit_learn(
    weights: np.ndarray[tuple[int], np.dtype[np.float64]] | None,
) -> None:
    figures = yes_or_no(POSITIVE, SCORE).figures(weights)
    assert figures == pytest.approx(
        {
            "auc": sklearn.roc_auc_score(POSITIVE, SCORE, sample_weight=weights),
            "pr_auc": sklearn.average_precision_score(POSITIVE, SCORE, sample_weight=weights),
            "log_loss": sklearn.log_loss(POSITIVE, SCORE, sample_weight=weights),
            "accuracy": sklearn.accuracy_score(POSITIVE, SCORE >= 0.5, sample_weight=weights),
            "macro_f1": sklearn.f1_score(
                POSITIVE, SCORE >= 0.5, average="macro", sample_weight=weights
            ),
            "rate": np.average(POSITIVE, weights=weights),
            "ece": figures["ece"],
        }
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_figures_of_classes_are_those_of_scikit_learn(
    weights: np.ndarray[tuple[int], np.dtype[np.float64]] | None,
) -> None:
    figures = of_classes(LABEL, PROBABILITY).figures(weights)
    likely = PROBABILITY.argmax(axis=1)
    classes = np.eye(6)[LABEL]
    each = [(classes[:, c], PROBABILITY[:, c]) for c in range(1, 5)]
    expected = {
        "log_loss": sklearn.log_loss(LABEL, PROBABILITY, labels=range(6), sample_weight=weights),
        "accuracy": sklearn.accuracy_score(LABEL, likely, sample_weight=weights),
        "macro_f1": sklearn.f1_score(LABEL, likely, average="macro", sample_weight=weights),
        "auc": np.mean([sklearn.roc_auc_score(*one, sample_weight=weights) for one in each]),
        "pr_auc": np.mean(
            [sklearn.average_precision_score(*one, sample_weight=weights) for one in each]
        ),
        "ndcg@5": sklearn.ndcg_score(classes, PROBABILITY, k=5, sample_weight=weights),
        "hr@5": sklearn.top_k_accuracy_score(
            LABEL, PROBABILITY, k=5, labels=range(6), sample_weight=weights
        ),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_the_calibration_error_is_the_mean_gap_between_what_was_said_and_what_came() -> None:
    # Two bins: 0.9 was said three times and came once, 0.2 was said once and did not come.
    certainty = Certainty.of(np.array([0.9, 0.9, 0.9, 0.2]), np.array([True, False, False, False]))
    assert certainty.error() == pytest.approx(3 / 4 * (0.9 - 1 / 3) + 1 / 4 * 0.2)
    assert certainty.error(np.array([1.0, 0, 0, 0])) == pytest.approx(0.1)
    edges = Certainty.of(np.array([0.0, 1.0]), np.array([False, True]))
    assert edges.bins.tolist() == [0, BINS - 1]


def test_lists_are_measured_by_the_rank_of_the_label_and_one_that_is_missing_counts_nothing() -> (
    None
):
    lists = np.array([[7, 8, 9, 0, 0, 0], [8, 9, 5, 4, 3, 7], [8, 9, 5, 4, 3, 2]])
    probability = np.tile([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], (3, 1))
    figures = of_list(np.array([7, 7, 7]), lists, probability).figures()
    assert figures["mrr"] == pytest.approx((1 + 1 / 6) / 3)
    assert figures["hr@1"] == figures["accuracy"] == pytest.approx(1 / 3)
    assert figures["hr@5"] == pytest.approx(1 / 3)
    assert figures["hr@10"] == pytest.approx(2 / 3)
    assert figures["ndcg@5"] == pytest.approx(1 / 3)
    assert figures["ndcg@10"] == pytest.approx((1 + 1 / log2(7)) / 3)


def test_equals_count_as_better_than_the_label() -> None:
    figures = of_classes(np.array([2]), np.array([[0.0, 0.4, 0.3, 0.3]])).figures()
    assert figures["mrr"] == pytest.approx(1 / 3)


def test_intervals_hold_the_figure_and_repeat_with_their_seed() -> None:
    answers = yes_or_no(POSITIVE, SCORE)
    users = np.arange(400) // 2
    found = intervals(answers, users, 100, seed=1)
    assert found == intervals(answers, users, 100, seed=1)
    for name, value in answers.figures().items():
        low, high = found[name]
        assert low <= value <= high or name == "ece"
    narrow = intervals(answers, users, 100, seed=1, level=0.5)
    assert found["auc"][0] < narrow["auc"][0] < narrow["auc"][1] < found["auc"][1]


def test_a_user_is_drawn_with_all_that_is_hers() -> None:
    """Ten rows of one user say no more than one: the interval is as wide as that of one row."""
    positive, score = np.array([True, False] * 20), np.linspace(0.1, 0.9, 40)
    alone = intervals(yes_or_no(positive, score), np.arange(40), 200, seed=1)
    copied = intervals(
        yes_or_no(np.repeat(positive, 10), np.repeat(score, 10)),
        np.repeat(np.arange(40), 10),
        200,
        seed=1,
    )
    assert copied == {name: pytest.approx(ends) for name, ends in alone.items()}


def test_the_interval_of_a_figure_that_is_not_defined_is_not_a_number() -> None:
    low, high = intervals(yes_or_no(np.ones(4, bool), np.full(4, 0.5)), np.arange(4), 10, 1)["auc"]
    assert isnan(low)
    assert isnan(high)
