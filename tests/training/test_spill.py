"""Buckets: each user in one of them, in order of arrival, and none too large."""

from pathlib import Path

import numpy as np

from clickpath.events import Click, Item
from clickpath.steps import UNKNOWN_PRICE
from training.examples import Entry, entry_of
from training.quantiles import Spread, Times
from training.spill import PLACE, USER, Spill, entries_of


def click(user: str, number: int, action: str = "view_item") -> Click:
    items = (Item("i", "c", 250), Item("j", None, None, 2))
    return Click(f"{user}-{number}", user, number, action, action, items)


def spilled(folder: Path, entries: list[Entry], bucket_clicks: int) -> list[list[Entry]]:
    spill = Spill(folder, bucket_clicks)
    for entry in entries:
        spill.add(entry)
    spill.close()
    assert spill.clicks == len(entries)
    return [list(entries_of(rows)) for rows in spill.buckets()]


def test_each_user_is_in_one_bucket_and_no_bucket_is_too_large(tmp_path: Path) -> None:
    entries = [entry_of(click(f"u{n % 50}", n), n) for n in range(1_000)]
    buckets = spilled(tmp_path, entries, bucket_clicks=60)
    assert sum(map(len, buckets)) == 1_000
    assert max(map(len, buckets)) <= 60
    users = [{entry.user for entry in bucket} for bucket in buckets]
    assert len(set.union(*users)) == sum(map(len, users)) == 50


def test_a_user_beyond_the_bound_has_a_bucket_alone(tmp_path: Path) -> None:
    entries = [entry_of(click("busy", n), n) for n in range(100)]
    entries += [entry_of(click(f"u{n}", n), n) for n in range(100)]
    buckets = spilled(tmp_path, entries, bucket_clicks=20)
    assert [len({e.user for e in b}) for b in buckets if len(b) > 20] == [1]


def test_a_click_comes_back_as_what_the_replay_needs_of_it(tmp_path: Path) -> None:
    given = [entry_of(click("u", 1, "add_to_cart"), 7), entry_of(click("u", 2), 8)]
    ((cart, view),) = spilled(tmp_path, given, 100)
    assert view == given[1]
    assert view.step.price_cents == 250 != UNKNOWN_PRICE
    assert cart.step[:-1] == given[0].step[:-1]
    assert len(cart.step.lines) == 2  # how many there are counts, what they hold does not


def test_the_order_of_arrival_is_that_of_the_places(tmp_path: Path) -> None:
    given = [entry_of(click("u", n), 100 - n) for n in range(10)]
    ((*found,),) = spilled(tmp_path, given, 100)
    assert found == given[::-1]


def test_buckets_can_be_changed(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 20)
    for n in range(100):
        spill.add(entry_of(click(f"u{n % 10}", n), n))
    spill.close()
    spill.change(lambda rows: rows[rows[:, PLACE] % 2 == 0])
    left = np.concatenate(list(spill.buckets()))
    assert sorted(left[:, PLACE].tolist()) == list(range(0, 100, 2))
    assert len(np.unique(left[:, USER])) == 5


def test_quantiles_of_times_are_exact() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.integers(0, 10**13, 500), rng.integers(10**12, 10**12 + 50, 500)])
    times = Times()
    for some in np.split(values, 4):
        times.add(some)
    ordered = np.sort(values)
    for share in (0.0, 0.1, 0.5, 0.85, 0.999):
        exact = ordered[int(share * len(values))]
        assert times.exactly(share, lambda: np.split(values, 4)) == exact
        assert 0 <= exact - times.about(share) < 1 << 22


def test_robust_bounds_do_not_follow_the_outliers() -> None:
    amounts = (1_000 * np.exp(np.random.default_rng(1).normal(0, 0.5, 10_000))).astype(np.int64)
    spread, disturbed = Spread(), Spread()
    spread.add(amounts)
    disturbed.add(np.concatenate([amounts, np.full(500, 10**11)]))
    low, high = spread.bounds(3.5) or (0, 0)
    assert 150 < low < 200  # 1000 / e^(3.5 * 0.5) = 174
    assert 5_000 < high < 6_500
    _, with_outliers = disturbed.bounds(3.5) or (0, 0)
    assert with_outliers < 1.3 * high


def test_nothing_is_said_where_more_than_half_are_alike() -> None:
    spread = Spread()
    assert spread.bounds(3.5) is None
    spread.add(np.array([5, 5, 5, 900]))
    assert spread.bounds(3.5) is None
