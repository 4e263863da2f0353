"""Baselines: the tables of those that count are small enough to count again by hand."""

from pathlib import Path

import numpy as np
import pytest

from clickpath.vocabulary import ACTION_COUNT, ACTIONS
from training.baselines import EVERY, Baseline, fit, fit_all
from training.baselines.counting import PRIOR, Counted, contexts, counted
from training.baselines.neighbours import neighbours
from training.baselines.summary import NAMES, summaries
from training.build import build
from training.corpus import Simulated
from training.dataset import Part
from training.examples import PARTS
from training.labels import UNKNOWN
from training.said import Asked, Said, answers_of


def part(actions: list[int], following: list[int], purchase: list[int]) -> Part:
    paths = np.zeros((1, 6, len(actions)), np.int64)
    paths[0, 0] = actions
    labels = {"next_action": np.array([following]), "purchase": np.array([purchase])}
    return Part.of(paths, labels)


def sessions(*items: list[int], following: list[list[int]] | None = None) -> Part:
    """Paths of views of items, each one session; labels are the next items."""
    longest = max(map(len, items))
    paths = np.zeros((len(items), 6, longest), np.int64)
    labels = np.zeros((len(items), longest), np.int64)
    for row, of in enumerate(items):
        paths[row, 0, : len(of)] = 5
        paths[row, 1, : len(of)] = of
        paths[row, 5, : len(of)] = np.arange(1, len(of) + 1)
        after = following[row] if following else [*of[1:], 0]
        labels[row, : len(of)] = after
    return Part.of(paths, {"next_item": labels})


def test_the_context_of_a_step_is_itself_and_those_before_it_but_none_after() -> None:
    actions = np.array([[3, 4, 5]])
    assert contexts(actions, 0).tolist() == [[0, 0, 0]]
    assert contexts(actions, 1).tolist() == [[3, 4, 5]]
    a = ACTION_COUNT
    assert contexts(actions, 2).tolist() == [[3 * a, 4 * a + 3, 5 * a + 4]]


def test_each_order_counts_and_leans_on_the_order_below() -> None:
    every = part([1, 2, 1, 2], [2, 1, 2, 0], [1, 1, 0, UNKNOWN])
    popularity, markov1, markov2 = (counted(every, order) for order in range(3))
    uniform = 1 / (ACTION_COUNT - 1)
    p2 = (2 + PRIOR * uniform) / (3 + PRIOR)
    assert popularity.actions[0, 2] == pytest.approx(p2)
    assert popularity.actions[0, 0] == 0
    assert popularity.yes["purchase"][0] == pytest.approx((2 + PRIOR / 2) / (3 + PRIOR))
    assert markov1.actions[1, 2] == pytest.approx((2 + PRIOR * p2) / (2 + PRIOR))
    assert markov1.actions[7] == pytest.approx(popularity.actions[0])
    after_1_then_2 = markov1.actions[2, 1]
    assert markov2.actions[2 * ACTION_COUNT + 1, 1] == pytest.approx(
        (1 + PRIOR * after_1_then_2) / (1 + PRIOR)
    )


def test_a_baseline_answers_for_the_last_step_of_each_path() -> None:
    one = part([1, 2, 1, 2], [2, 1, 2, 0], [1, 1, 0, UNKNOWN])
    for baseline in fit(one).values():
        said = baseline.predict(one)
        assert {*said} == {"next_action", "purchase"}
        assert said["next_action"].shape == (1, ACTION_COUNT)
        assert said["next_action"].sum() == pytest.approx(1)
        assert said["purchase"].shape == (1,)
    assert fit(one)["markov1"].predict(one)["next_action"][0].argmax() == 1


def best_items(baseline: Counted | Baseline, asked: Part) -> list[int]:
    said = baseline.predict(asked)
    assert said["next_item"][0].tolist() == sorted(said["next_item"][0], reverse=True)
    assert said["next_item"].sum() == pytest.approx(1)
    return [token for token in said["next_item_token"][0].tolist() if token]


def test_items_are_counted_by_the_items_before_them() -> None:
    seen = sessions([1, 2, 3], [1, 2, 3], [4, 2, 5], [4, 2, 5], [4, 2, 5])
    asked = sessions([1, 2], following=[[0, 3]])
    assert best_items(counted(seen, 0), asked)[0] == 2
    assert best_items(counted(seen, 1), asked)[:2] == [5, 3]
    assert best_items(counted(seen, 2), asked)[:2] == [3, 5]
    # After something that nobody has seen: what comes most often.
    assert best_items(counted(seen, 2), sessions([9], following=[[1]]))[0] == 2


def test_neighbours_lend_what_sessions_with_the_same_items_held() -> None:
    remembered = neighbours(sessions([1, 2, 3], [1, 2, 4], [1, 2, 4], [7, 8]))
    assert best_items(remembered, sessions([1, 2], following=[[0, 3]])) == [1, 2, 4, 3]
    said = remembered.predict(sessions([9], following=[[1]]))
    assert said["next_item"].sum() == 0


def test_a_summary_looks_back_only() -> None:
    rng = np.random.default_rng(1)
    paths = rng.integers(1, 5, (3, 6, 12))
    paths[:, 5] = np.arange(1, 13)
    other = paths.copy()
    other[:, :, 7:] = rng.integers(1, 5, (3, 6, 5))
    assert np.array_equal(summaries(paths)[:, :7], summaries(other)[:, :7])


def test_a_summary_counts_within_the_session() -> None:
    paths = np.zeros((1, 6, 4), np.int64)
    paths[0, 0] = [5, 7, 5, 5]
    paths[0, 1] = [11, 11, 12, 11]
    paths[0, 5] = [1, 2, 1, 2]  # a new session begins at the third step
    row = dict(zip(NAMES, summaries(paths)[0, 3], strict=True))
    assert row["in_session_view_item"] == 2
    assert row[f"in_session_{ACTIONS[6]}"] == 0
    assert row["repeats_item"] == 2
    assert (row["action_0_back"], row["action_2_back"]) == (5, 7)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Part, Part, Part]:
    folder = tmp_path_factory.mktemp("small")
    dataset = build(Simulated(8_000, 100, 4), folder, say=lambda _: None)
    train, valid, test = (dataset.part(name) for name in PARTS)
    return train, valid, test


@pytest.fixture(scope="module")
def every_said(small: tuple[Part, Part, Part]) -> dict[str, Said]:
    fitted = fit_all(small[0], small[1], seed=1)
    return {name: baseline.predict(small[2]) for name, baseline in fitted.items()}


def test_all_baselines_say_all_that_applies_to_them(every_said: dict[str, Said]) -> None:
    assert tuple(every_said) == EVERY
    tokens = {"next_category", "next_category_token", "next_item", "next_item_token"}
    dense = {"next_action", "purchase", "leave"}
    for name in ("popularity", "markov1", "markov2", "gru"):
        assert {*every_said[name]} == tokens | dense
    assert {*every_said["knn"]} == tokens
    assert {*every_said["lightgbm"]} == dense


def test_each_learns_more_than_popularity(
    every_said: dict[str, Said], small: tuple[Part, Part, Part]
) -> None:
    asked = Asked.of(small[2])

    def figure(name: str, head: str, figure: str) -> float:
        return answers_of(head, asked, every_said[name], asked.known(head)).figures()[figure]

    for name in ("markov1", "markov2", "lightgbm", "gru"):
        assert figure(name, "next_action", "log_loss") < figure(
            "popularity", "next_action", "log_loss"
        )
    for name in ("markov1", "markov2", "knn", "gru"):
        assert figure(name, "next_category", "hr@1") > figure("popularity", "next_category", "hr@1")


def test_probabilities_of_all_actions_sum_to_one(every_said: dict[str, Said]) -> None:
    for said in every_said.values():
        if "next_action" in said:
            np.testing.assert_allclose(said["next_action"].sum(axis=1), 1, atol=1e-6)
            assert said["next_action"][:, 0].max() == 0


def test_the_parts_may_lie_on_disk(small: tuple[Part, Part, Part]) -> None:
    assert all(isinstance(shard, Path) for shard in small[0].shards)
