"""What counting says about the candidates of a path."""

from __future__ import annotations

import math

import pytest
import torch

from training.sessions.counts import CountConfig, Gathered, count, gather
from training.sessions.log import Sessions

LOG = Sessions.of([[1, 2, 3], [1, 2], [4, 1, 1]])
ROWS = 7

#: No session fades, no length or rarity counts: sums are plain.
PLAIN = CountConfig(
    neighbours=4, window=2, age_decay=1e9, length=0.0, rarity=0.0, reaches=(1.0,), spans=(0.5,)
)
LOGIT, SUM, SHARE, SUPPORT, AFTER = 0, 1, 2, 3, 4
PLACES, TIMES, CLICKS = slice(7, 12), 12, 13


def candidates(path: list[int], extra: list[int] | None = None) -> tuple[Gathered, list[int]]:
    found = gather(
        count(LOG, ROWS, PLAIN),
        PLAIN,
        torch.tensor([path]),
        torch.arange(float(ROWS))[None],
        torch.tensor(extra or [], dtype=torch.long),
    )
    return found, found.item.tolist()


def feature(path: list[int], item: int, which: int) -> float:
    found, items = candidates(path)
    return float(found.features[items.index(item), which])


def test_candidates_are_a_paths_items_their_neighbours_and_the_extra_ones() -> None:
    assert candidates([1, 0])[1] == [1, 2, 3, 4]
    assert candidates([4, 0])[1] == [1, 4]
    found, items = candidates([4, 0], [5, 1])
    assert items == [1, 4, 5]
    assert found.counted.tolist() == [True, True, False]
    assert [items[i] for i in found.place.tolist()] == [5, 1]


def test_an_empty_path_has_the_extra_ones_alone() -> None:
    assert candidates([0, 0])[1] == []
    assert candidates([0, 0], [6])[1] == [6]


def test_neighbours_are_summed_over_the_path_and_fade_along_it() -> None:
    config_forward, config_two = 1.0, math.exp(-1 / PLAIN.decay)
    from_last = 1 * config_forward  # 2 then 3, once
    from_first = math.exp(-1) * config_two  # 1 then 3, a click apart
    assert feature([1, 2], 3, SUM) == pytest.approx(math.log1p(10 * (from_last + from_first)))
    assert feature([1, 2], 3, SUPPORT) == pytest.approx(math.log(3))
    assert feature([1, 2], 3, SHARE) > feature([1, 2], 4, SHARE)


def test_what_came_right_after_the_last_click_is_told_apart() -> None:
    assert feature([1], 2, AFTER) == pytest.approx(math.log1p(10 * 2))
    assert feature([1], 4, AFTER) == 0
    assert feature([2, 1], 3, AFTER) == 0


def test_a_repeat_knows_how_far_back_and_how_often() -> None:
    found, items = candidates([2, 1, 2, 3])
    repeats = found.features[:, PLACES]
    assert repeats[items.index(3)].tolist() == [1, 0, 0, 0, 0]
    assert repeats[items.index(2)].tolist() == [0, 1, 0, 0, 0]
    assert repeats[items.index(4)].sum() == 0
    assert found.features[items.index(2), TIMES] == 1
    assert found.features[items.index(3), TIMES] == 0


def test_popularity_is_of_all_time_and_of_late() -> None:
    counts = count(Sessions.of([[1, 2], [1, 3]]), 4, PLAIN)
    all_time, of_late = counts.popularity.T.expm1()
    assert all_time.tolist() == pytest.approx([0, 2, 1, 1])
    assert of_late[2] < of_late[3] == pytest.approx(1.0)


def test_the_prior_has_a_weight_for_each_feature() -> None:
    for config in (PLAIN, CountConfig()):
        counts = count(LOG, ROWS, config)
        none = torch.zeros(0, dtype=torch.long)
        found = gather(counts, config, torch.tensor([[1]]), torch.zeros(1, ROWS), none)
        assert found.features.shape[1] == len(config.prior)


def test_paths_of_a_batch_do_not_mix() -> None:
    counts, none = count(LOG, ROWS, PLAIN), torch.zeros(0, dtype=torch.long)
    logits = torch.zeros(2, ROWS)
    both = gather(counts, PLAIN, torch.tensor([[1, 2], [4, 0]]), logits, none)
    alone = gather(counts, PLAIN, torch.tensor([[4]]), logits[:1], none)
    second = both.path == 1
    assert both.item[second].tolist() == alone.item.tolist()
    assert torch.allclose(both.features[second], alone.features)
