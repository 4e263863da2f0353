"""Votes of sessions that share items with a path."""

from __future__ import annotations

import numpy as np

from training.sessions.knn import KnnConfig, SessionKnn
from training.sessions.log import Sessions

LOG = Sessions.of([[1, 2, 3], [4, 5], [1, 2, 6], [7, 1]])


def votes(path: list[int], config: KnnConfig | None = None) -> dict[int, float]:
    said = SessionKnn(LOG, 9, config).votes(Sessions.of([path]))
    assert set(said.path.tolist()) <= {0}
    return dict(zip(said.item.tolist(), said.score.tolist(), strict=True))


def test_only_sessions_with_a_common_item_vote() -> None:
    assert set(votes([1])) == {1, 2, 3, 6, 7}
    assert set(votes([5])) == {4, 5}
    assert votes([8]) == {}
    assert votes([]) == {}


def test_a_newer_session_counts_more() -> None:
    said = votes([2])
    assert said[6] > said[3]


def test_what_came_after_counts_more_than_what_came_before() -> None:
    said = votes([2], KnnConfig(popularity=0.0))
    assert said[3] + said[6] > said[1]


def test_the_last_item_of_a_path_counts_more() -> None:
    assert votes([4, 2])[3] > votes([4, 2])[5] * 0.5
    assert votes([2, 4])[5] > votes([2, 4])[3]


def test_the_nearest_sessions_alone_vote() -> None:
    assert set(votes([1, 2], KnnConfig(neighbours=1))) == {1, 2, 6}


def test_paths_of_a_batch_do_not_mix() -> None:
    knn = SessionKnn(LOG, 9)
    together = knn.votes(Sessions.of([[1], [], [5, 4]]))
    alone = knn.votes(Sessions.of([[5, 4]]))
    of_last = together.path == 2
    assert np.array_equal(together.item[of_last], alone.item)
    assert np.allclose(together.score[of_last], alone.score)
