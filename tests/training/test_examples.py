"""Examples: what the worker would see, labelled by what came later, and by nothing too late."""

from array import array
from dataclasses import replace

import pytest

from clickpath.encoding import FEATURES, Encoder, path_length
from clickpath.events import Click
from clickpath.simulation import simulate
from clickpath.simulation.faults import shuffled_within, with_duplicates
from clickpath.vocabulary import ACTION_ID
from clickpath.window import EMPTY_PATH, Window, push
from training.examples import TEST, TRAIN, UNKNOWN, VALID, Cuts, Example, Replay, Sampling

MINUTE_MS = 60_000
ENCODER = Encoder(Window())
NO_CUTS = Cuts(10**14, 10**14)


def click(minute: int, action: str, user: str = "u") -> Click:
    return Click(f"{user}-{minute}", user, minute * MINUTE_MS, action, action)


def replayed(
    clicks: list[Click], cuts: Cuts, share: float = 1.0, stride: int = 25
) -> list[Example]:
    return list(Replay(ENCODER, cuts, Sampling(stride=stride, share=share)).run(clicks))


def actions(*names: str) -> list[int]:
    return [ACTION_ID[name] if name else 0 for name in names]


def test_each_step_is_labelled_with_the_next_action_and_a_purchase_before_the_session_ends() -> (
    None
):
    (example,) = replayed(
        [
            click(0, "page_view"),
            click(1, "add_to_cart"),
            click(2, "purchase"),
            click(3, "page_view"),
            click(33, "page_view"),  # 30 minutes later: another session
            click(34, "purchase"),
        ],
        NO_CUTS,
    )
    assert example.part == TRAIN
    assert list(example.next_action[:6]) == actions(
        "add_to_cart", "purchase", "page_view", "page_view", "purchase", ""
    )
    assert list(example.purchase[:6]) == [1, 1, 0, 0, 1, UNKNOWN]
    assert set(example.purchase[6:]) == {UNKNOWN}


def test_a_purchase_is_ruled_out_once_there_was_silence_enough() -> None:
    clicks = [click(0, "page_view"), click(40, "page_view", user="other")]
    first, other = replayed(clicks, NO_CUTS), click(0, "page_view")
    assert [list(e.purchase[:1]) for e in first] == [[0]]
    assert path_length(first[0].path) == 1
    assert other.user_id == "u"


def test_every_training_step_is_labelled_in_exactly_one_array() -> None:
    clicks = list(simulate(3_000, 30, seed=1))
    examples = replayed(clicks, NO_CUTS)
    known = sum(sum(y != 0 for y in e.next_action) for e in examples)
    users = len({c.user_id for c in clicks})
    assert known == len(clicks) - users


def test_an_array_is_what_the_worker_encodes_at_that_click() -> None:
    clicks = list(simulate(2_000, 20, seed=2))
    cuts = Cuts(clicks[500].ts_ms, clicks[1_200].ts_ms)
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
    cuts = Cuts(clicks[1_500].ts_ms, clicks[2_200].ts_ms)
    # The planted future: after the test cut everybody only buys.
    planted = [
        c if c.ts_ms < cuts.test_ms else replace(c, action="purchase", items=()) for c in clicks
    ]
    before = [e for e in replayed(clicks, cuts) if e.part != TEST]
    assert [e for e in replayed(planted, cuts) if e.part != TEST] == before
    assert {e.part for e in before} == {TRAIN, VALID}


def test_copies_and_disorder_within_the_bound_lose_no_example() -> None:
    clicks = list(simulate(3_000, 10, seed=4))
    arrived = list(shuffled_within(with_duplicates(clicks, 0.1, 1), ENCODER.window.lateness_ms, 1))
    known = [
        sum(sum(y != 0 for y in e.next_action) for e in replayed(some, NO_CUTS))
        for some in (clicks, arrived)
    ]
    assert known[1] == pytest.approx(known[0], rel=0.02)


def test_an_example_has_the_shapes_of_the_encoder() -> None:
    (example,) = replayed([click(0, "page_view"), click(1, "search")], NO_CUTS)
    steps = ENCODER.window.steps
    assert isinstance(example.path, array)
    assert len(example.path) == FEATURES * steps
    assert len(example.next_action) == len(example.purchase) == steps
