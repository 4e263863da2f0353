"""Explanations: what is called important is what moves the score."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from clickpath.encoding import FEATURES, Encoder
from clickpath.window import Window
from serving.embedded import shipped_model
from serving.graph import Graph
from training.build import build
from training.corpus import Simulated
from training.dataset import Ints
from training.explain import log_odds, shares, telling, without
from training.metrics import Floats

ENCODER = Encoder(Window())
TOP = 3


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Ints]:
    folder: Path = tmp_path_factory.mktemp("explained")
    test = build(Simulated(8_000, 160, 31), folder, say=lambda _: None).part("test").whole()
    long = [n for n in range(len(test)) if test.lengths[n] >= 12]
    return [test.paths[n, :, : test.lengths[n]] for n in long[:60]]


def test_deleting_the_top_events_moves_the_score_more_than_deleting_random_ones(
    paths: list[Ints],
) -> None:
    graph = Graph(shipped_model(), ENCODER)

    def ask(some: Ints) -> Floats:
        return graph.run(some)["purchase"].astype(np.float64)

    rng = np.random.default_rng(1)
    won = []
    for path in paths:
        steps = path.shape[1]
        moved = []
        top = telling(ask, path, TOP)
        for deleted in (top, rng.choice(steps, TOP, replace=False)):
            kept = np.ones(steps, bool)
            kept[deleted] = False
            odds = log_odds(ask(np.stack([path, without(path, kept)])))
            moved.append(abs(odds[0] - odds[1]))
        won.append(moved[0] > moved[1])
    assert len(won) >= 50
    assert np.mean(won) >= 0.9


def test_a_deleted_step_leaves_a_path_as_the_encoder_makes_them() -> None:
    path = np.arange(1, FEATURES * 6 + 1).reshape(FEATURES, 6)
    path[5] = [3, 4, 5, 1, 2, 3]  # the session began before the window; another one follows
    kept = np.array([True, False, True, True, False, True])
    shorter = without(path, kept)
    assert shorter[0].tolist() == [1, 3, 4, 6, 0, 0]
    assert shorter[5].tolist() == [3, 4, 1, 2, 0, 0]


def test_a_step_that_alone_decides_has_all_the_share() -> None:
    path = np.ones((FEATURES, 4), np.int64)
    path[5] = [1, 2, 3, 4]
    path[0] = [1, 7, 1, 1]

    def ask(some: Ints) -> Floats:
        return np.where((some[:, 0] == 7).any(axis=1), 0.9, 0.1)

    found = shares(ask, path)
    assert found[1] == pytest.approx(2 * np.log(9))
    assert all(found[n] == 0 for n in (0, 2, 3))
    assert [*pairwise(found > 0)] == [(False, True), (True, False), (False, False)]
