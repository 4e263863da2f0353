"""Cleaning of foreign logs: each rule by its reason, and nothing else touched."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from clickpath.events import Click, Item
from clickpath.steps import Step
from training.cleaning import Cleaner, Rules
from training.examples import Cuts, Entry, entry_of
from training.labels import DAY_MS
from training.spill import Spill, entries_of

START_MS = 1_500_000_000_000
MINUTE_MS = 60_000
GAP_MS = 30 * MINUTE_MS
ALL_TRAINING = Cuts(*(START_MS + 200 * DAY_MS,) * 3)
DWELLS_MS = (20_000, 30_000, 45_000, 25_000, 40_000)


def click(user: str, ts_ms: int, price: int = 0, item: str = "", event: str = "") -> Click:
    thing = Item(item or f"item-{ts_ms % 7}", None, price or 900 + ts_ms // 1000 % 300)
    return Click(event or f"{user}-{ts_ms}", user, ts_ms, "view_item", "view_item", (thing,))


def people(count: int = 20) -> list[Click]:
    """Shoppers with a session of eleven steps a day, for three days."""
    clicks = []
    for user in range(count):
        for day in range(3):
            ts_ms = START_MS + day * DAY_MS + user * 7_000
            for step in range(11):
                clicks.append(click(f"u{user}", ts_ms))
                ts_ms += DWELLS_MS[(step + user) % 5]
    return clicks


def cleaned(
    clicks: Iterable[Click], folder: Path, cuts: Cuts = ALL_TRAINING
) -> tuple[list[Entry], Cleaner]:
    spill = Spill(folder, 200)
    for place, one in enumerate(clicks):
        spill.add(entry_of(one, place))
    spill.close()
    cleaner = Cleaner(Rules(), GAP_MS)
    cleaner.clean(spill, lambda: cuts)
    return [entry for rows in spill.buckets() for entry in entries_of(rows)], cleaner


def test_clean_clicks_stay_as_they_are(tmp_path: Path) -> None:
    left, cleaner = cleaned(people(), tmp_path)
    assert not cleaner.dropped
    assert not cleaner.clipped
    given = {(entry.user, entry.step) for entry in map(entry_of, people())}
    assert {(entry.user, entry.step) for entry in left} == given


def test_dates_of_1970_and_of_the_next_century_are_impossible(tmp_path: Path) -> None:
    wrong = [click("u1", 0), click("u2", 86_400_000), click("u3", 4_000_000_000_000)]
    left, cleaner = cleaned([*people(), *wrong], tmp_path)
    assert cleaner.dropped == {"impossible_time": 3}
    assert len(left) == len(people())


def test_the_later_of_two_clicks_with_one_id_is_a_duplicate(tmp_path: Path) -> None:
    again = click("u1", START_MS + 2 * DAY_MS + 5, event=f"u1-{START_MS + 7_000}")
    of_another = click("u2", START_MS + 2 * DAY_MS + 5, event=f"u1-{START_MS + 7_000}")
    left, cleaner = cleaned([again, of_another, *people()], tmp_path)
    assert cleaner.dropped == {"duplicate": 1}
    assert len(left) == len(people()) + 1


def test_a_user_who_is_faster_than_hands_is_dropped_as_a_whole(tmp_path: Path) -> None:
    bot = [click("bot", START_MS + n * 900, item=f"i{n}") for n in range(61)]
    bot.append(click("bot", START_MS + DAY_MS))
    left, cleaner = cleaned([*people(), *bot], tmp_path)
    assert cleaner.dropped == {"bot_rate": 62}
    assert len(left) == len(people())


def test_sixty_clicks_a_minute_are_still_a_person(tmp_path: Path) -> None:
    quick = [click("quick", START_MS + n * 1_000, item=f"i{n}") for n in range(60)]
    _, cleaner = cleaned([*people(), *quick], tmp_path)
    assert not cleaner.dropped


def test_a_user_who_never_sleeps_is_dropped(tmp_path: Path) -> None:
    awake = [click("bot", START_MS + n * 40_000, item=f"i{n}") for n in range(2_100)]
    _, cleaner = cleaned([*people(), *awake], tmp_path)
    assert cleaner.dropped == {"bot_rate": 2_100}


def test_a_user_who_does_one_thing_only_is_dropped(tmp_path: Path) -> None:
    bot = [click("bot", START_MS + n * MINUTE_MS, item="same") for n in range(96)]
    bot += [click("bot", START_MS + DAY_MS + n * MINUTE_MS, item=f"i{n}") for n in range(5)]
    person = [click("fan", START_MS + n * MINUTE_MS, item="same") for n in range(90)]
    person += [click("fan", START_MS + DAY_MS + n * MINUTE_MS, item=f"i{n}") for n in range(10)]
    left, cleaner = cleaned([*people(), *bot, *person], tmp_path)
    assert cleaner.dropped == {"bot_repetition": 101}
    assert len(left) == len(people()) + 100


def test_a_price_far_outside_is_clipped_and_counted_not_dropped(tmp_path: Path) -> None:
    dear = click("u1", START_MS + 3 * DAY_MS, price=10**9)
    left, cleaner = cleaned([*people(), dear], tmp_path)
    assert cleaner.clipped == {"price": 1}
    assert len(left) == len(people()) + 1
    assert 1_200 < max(entry.step.price_cents for entry in left) < 5_000


def test_a_dwell_far_outside_is_clipped_and_the_next_session_stays(tmp_path: Path) -> None:
    first_ms = START_MS + 3 * DAY_MS
    back_ms = first_ms + DAY_MS
    steps = [first_ms, first_ms + 29 * MINUTE_MS, first_ms + 29 * MINUTE_MS + 30_000, back_ms]
    left, cleaner = cleaned([*people(), *(click("slow", ts_ms) for ts_ms in steps)], tmp_path)
    assert cleaner.clipped == {"dwell": 1}
    slow = entry_of(click("slow", 0)).user
    times_ms = [entry.step.ts_ms for entry in left if entry.user == slow]
    assert times_ms[0] == first_ms
    assert 45_000 < times_ms[1] - times_ms[0] < 10 * MINUTE_MS
    assert times_ms[2] - times_ms[1] == 30_000
    assert times_ms[3] == back_ms


def test_clicks_are_taken_in_order_of_time(tmp_path: Path) -> None:
    left, _ = cleaned(reversed(people()), tmp_path)
    for before, after in pairwise(left):
        assert before.user != after.user or before.step.ts_ms <= after.step.ts_ms


def test_a_log_without_prices_is_left_alone(tmp_path: Path) -> None:
    bare = [Click(f"e{n}", "u", START_MS + n * 60_000, "search", "search") for n in range(50)]
    left, cleaner = cleaned(bare, tmp_path)
    assert not cleaner.clipped
    assert {entry.step.price_cents for entry in left} == {-1}
    assert np.diff([entry.step.ts_ms for entry in left]).tolist() == [60_000] * 49


def steps_before(entries: Iterable[Entry], end_ms: int) -> set[tuple[int, Step]]:
    return {(entry.user, entry.step) for entry in entries if entry.step.ts_ms < end_ms}


def test_the_future_of_a_log_cleans_nothing_before_it(tmp_path: Path) -> None:
    cut_ms = START_MS + 2 * DAY_MS
    cuts = Cuts(cut_ms, cut_ms + DAY_MS, cut_ms + 2 * DAY_MS)
    past = [*people(), click("u1", START_MS + DAY_MS // 2, price=10**9)]
    # From the cut on half of the users are bots, and all prices are a hundred times as high.
    future = [click(f"u{n}", cut_ms + 5, price=300_000, item=f"i{n}") for n in range(20)]
    future += [
        click(f"u{user}", cut_ms + MINUTE_MS + n * 500, price=300_000, item=f"i{n}")
        for user in range(10)
        for n in range(100)
    ]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    past = [c for c in past if c.ts_ms < cut_ms]
    honest, of_past = cleaned(past, tmp_path / "a", cuts)
    planted, of_both = cleaned([*past, *future], tmp_path / "b", cuts)
    assert steps_before(planted, cut_ms) == steps_before(honest, cut_ms)
    assert len(planted) == len(honest) + 10
    assert of_past.clipped == {"price": 1}
    assert of_both.dropped == {"bot_rate": 1_010}
    assert of_both.clipped == {"price": 11}


def test_a_bot_of_the_training_part_is_gone_from_all_parts(tmp_path: Path) -> None:
    cut_ms = START_MS + 2 * DAY_MS
    bot = [click("bot", START_MS + n * 900, item=f"i{n}") for n in range(61)]
    bot.append(click("bot", cut_ms + DAY_MS // 2))
    _, cleaner = cleaned([*people(), *bot], tmp_path, Cuts(cut_ms, cut_ms + DAY_MS, 1 << 50))
    assert cleaner.dropped == {"bot_rate": 62}


def test_no_step_moves_across_a_cut(tmp_path: Path) -> None:
    first_ms = START_MS + 2 * DAY_MS + DAY_MS // 2
    steps = [first_ms, first_ms + 29 * MINUTE_MS, first_ms + 29 * MINUTE_MS + 30_000]
    clicks = [*people(), *(click("slow", ts_ms) for ts_ms in steps)]
    slow = entry_of(click("slow", 0)).user
    for cut_ms, clipped in ((steps[1], 0), (steps[2], 1)):
        folder = tmp_path / str(cut_ms)
        folder.mkdir()
        left, cleaner = cleaned(clicks, folder, Cuts(cut_ms, cut_ms + DAY_MS, 1 << 50))
        times_ms = [entry.step.ts_ms for entry in left if entry.user == slow]
        assert cleaner.clipped["dwell"] == clipped
        assert [ts_ms for ts_ms in times_ms if ts_ms >= cut_ms] == [t for t in steps if t >= cut_ms]
