"""Examples: what the worker would see, labelled by what came later, and by nothing too late."""

from array import array
from dataclasses import replace

import pytest

from clickpath.encoding import FEATURES, Encoder
from clickpath.events import Click
from clickpath.simulation import simulate
from clickpath.simulation.faults import shuffled_within, with_duplicates
from clickpath.vocabulary import ACTION_ID
from clickpath.window import EMPTY_PATH, Window, push
from training.examples import TEST, TRAIN, VALID, Cuts, Example, Replay, Sampling, entry_of
from training.labels import HEADS, NO_LABELS, UNKNOWN

MINUTE_MS = 60_000
ENCODER = Encoder(Window())
NEXT_ACTION, PURCHASE = (
    [head.name for head in HEADS].index(name) for name in ("next_action", "purchase")
)


def click(minute: int, action: str, user: str = "u") -> Click:
    return Click(f"{user}-{minute}", user, minute * MINUTE_MS, action, action)


def replayed(
    clicks: list[Click], cuts: Cuts | None = None, share: float = 1.0, stride: int = 25
) -> list[Example]:
    newest_ms = max(c.ts_ms for c in clicks)
    cuts = cuts or Cuts(newest_ms + 1, newest_ms + 1, newest_ms + 1)
    replay = Replay(ENCODER, cuts, Sampling(stride=stride, share=share))
    by_user = sorted(map(entry_of, clicks), key=lambda entry: entry.user)
    return list(replay.run(by_user))


def column(example: Example, head: int) -> list[int]:
    return [labels[head] for labels in example.labels]


def test_each_step_is_labelled_by_what_its_user_does_later() -> None:
    (example,) = replayed(
        [
            click(0, "page_view"),
            click(1, "add_to_cart"),
            click(2, "purchase"),
            click(3, "page_view"),
            click(33, "page_view"),  # 30 minutes later: another session
            click(34, "purchase"),
        ]
    )
    assert example.part == TRAIN
    assert column(example, NEXT_ACTION) == [
        *(ACTION_ID[name] for name in ("add_to_cart", "purchase", "page_view", "page_view")),
        ACTION_ID["purchase"],
        0,
    ]
    # The last session may go on.
    assert column(example, PURCHASE) == [1, 1, 0, 0, UNKNOWN, UNKNOWN]


def test_every_training_step_is_labelled_in_exactly_one_array() -> None:
    clicks = list(simulate(3_000, 30, seed=1))
    known = sum(y != 0 for e in replayed(clicks) for y in column(e, NEXT_ACTION))
    assert known == len(clicks) - len({c.user_id for c in clicks})


def test_an_example_of_a_later_part_has_labels_on_its_last_step_only() -> None:
    clicks = list(simulate(3_000, 30, seed=1))
    cuts = Cuts(clicks[500].ts_ms, clicks[1_200].ts_ms, clicks[-1].ts_ms + 1)
    later = [e for e in replayed(clicks, cuts) if e.part != TRAIN]
    assert {e.part for e in later} == {VALID, TEST}
    assert {labels for e in later for labels in e.labels[:-1]} == {NO_LABELS}


def test_an_array_is_what_the_worker_encodes_at_that_click() -> None:
    clicks = list(simulate(2_000, 20, seed=2))
    cuts = Cuts(clicks[500].ts_ms, clicks[1_200].ts_ms, clicks[-1].ts_ms + 1)
    seen = {bytes(e.path) for e in replayed(clicks, cuts) if e.part in (VALID, TEST)}
    paths = dict.fromkeys((c.user_id for c in clicks), EMPTY_PATH)
    expected = set()
    for one in clicks:
        paths[one.user_id], _ = push(paths[one.user_id], one, ENCODER.window)
        if one.ts_ms >= cuts.valid_ms:
            expected.add(bytes(ENCODER.encode(paths[one.user_id])))
    assert seen <= expected
    assert len(seen) > 0.9 * len(expected)


def test_what_comes_after_a_cut_changes_nothing_before_it() -> None:
    clicks = list(simulate(3_000, 30, seed=3))
    cuts = Cuts(clicks[1_500].ts_ms, clicks[2_200].ts_ms, clicks[-1].ts_ms + 1)
    # The planted future: after the test cut everybody only buys.
    planted = [
        c if c.ts_ms < cuts.test_ms else replace(c, action="purchase", items=()) for c in clicks
    ]
    before = [e for e in replayed(clicks, cuts) if e.part != TEST]
    assert [e for e in replayed(planted, cuts) if e.part != TEST] == before
    assert {e.part for e in before} == {TRAIN, VALID}


def test_the_replay_of_some_users_gives_what_the_replay_of_all_gives_for_them() -> None:
    clicks = list(shuffled_within(simulate(3_000, 30, seed=5), ENCODER.window.lateness_ms, 1))
    times_ms = sorted(c.ts_ms for c in clicks)
    cuts = Cuts(times_ms[1_500], times_ms[2_200], times_ms[-1])
    some = {c.user_id for c in clicks[:40:4]}
    alone = replayed([c for c in clicks if c.user_id in some], cuts)
    users = {e.user for e in alone}
    assert [e for e in replayed(clicks, cuts) if e.user in users] == alone


def test_copies_and_disorder_within_the_bound_lose_no_example() -> None:
    clicks = list(simulate(3_000, 10, seed=4))
    arrived = list(shuffled_within(with_duplicates(clicks, 0.1, 1), ENCODER.window.lateness_ms, 1))
    known = [
        sum(y != 0 for e in replayed(some) for y in column(e, NEXT_ACTION))
        for some in (clicks, arrived)
    ]
    assert known[1] == pytest.approx(known[0], rel=0.02)


def test_an_example_has_the_shape_of_the_encoder_and_labels_for_each_step() -> None:
    (example,) = replayed([click(0, "page_view"), click(1, "search")])
    assert isinstance(example.path, array)
    assert len(example.path) == FEATURES * ENCODER.window.steps
    assert len(example.labels) == 2
    assert example.last.ts_ms == MINUTE_MS
