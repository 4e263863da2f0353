"""Metrics, against values worked out by hand."""

from math import isnan, log

import numpy as np
import pytest

from training.metrics import auc, binary, multiclass


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
