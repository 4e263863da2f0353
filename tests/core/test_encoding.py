from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickpath.encoding import (
    FEATURE_NAMES,
    FEATURES,
    GAP_BUCKETS,
    PRICE_BUCKETS,
    SESSION_POSITIONS,
    Encoder,
    path_length,
)
from clickpath.events import MAX_CENTS, MAX_TS_MS, Click, Item
from clickpath.ids import token_hash
from clickpath.steps import Step
from clickpath.vocabulary import ACTION_ID
from clickpath.window import EMPTY_PATH, PathState, Window, push

WINDOW = Window(steps=4)
SHOE, WEAR = token_hash("shoe"), token_hash("wear")
HALF_HOUR_MS = 1_800_000


def path_of(*clicks: Click, window: Window = WINDOW) -> PathState:
    path = EMPTY_PATH
    for click in clicks:
        path, _ = push(path, click, window)
    return path


def click(event_id: str, ts_ms: int, action: str = "page_view", *items: Item) -> Click:
    return Click(event_id, "ada", ts_ms, action, action, items)


def rows(encoded: "array[int]") -> dict[str, list[int]]:
    steps = len(encoded) // FEATURES
    return {
        name: list(encoded[n * steps : (n + 1) * steps]) for n, name in enumerate(FEATURE_NAMES)
    }


def test_a_path_is_encoded_feature_by_feature_with_padding_after_the_newest_step() -> None:
    path = path_of(
        click("a", 1_000),
        click("b", 1_003, "view_item", Item("shoe", "wear", 4_999)),
        click("c", 1_003 + HALF_HOUR_MS, "add_to_cart", Item("shoe", None, 0)),
    )
    encoded = Encoder(WINDOW).encode(path)
    assert encoded.typecode == "q"
    assert rows(encoded) == {
        "action": [1, 5, 7, 0],
        "item": [0, SHOE, SHOE, 0],
        "category": [0, WEAR, 0, 0],
        "price_bucket": [0, 13, 1, 0],
        "gap_bucket": [0, 3, 22, 0],
        "session_position": [1, 2, 1, 0],
    }
    assert path_length(encoded) == 3


def test_an_empty_path_is_all_padding() -> None:
    encoded = Encoder(WINDOW).encode(EMPTY_PATH)
    assert list(encoded) == [0] * 24
    assert path_length(encoded) == 0


def test_of_a_long_path_the_newest_steps_remain() -> None:
    actions = ["search", "login", "view_item", "add_to_cart", "view_cart", "purchase"]
    path = path_of(*[click(f"e-{n}", n, action) for n, action in enumerate(actions)])
    encoded = rows(Encoder(WINDOW).encode(path))
    assert encoded["action"] == [ACTION_ID[action] for action in actions[2:]]
    assert encoded["gap_bucket"] == [0, 2, 2, 2]
    assert encoded["session_position"] == [1, 2, 3, 4]


def test_two_steps_at_one_time_have_the_smallest_gap() -> None:
    encoded = rows(Encoder(WINDOW).encode(path_of(click("a", 5), click("b", 5))))
    assert encoded["gap_bucket"] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("price_cents", "bucket"),
    [(None, 0), (0, 1), (1, 2), (2, 2), (3, 3), (6, 3), (7, 4), (4_999, 13), (MAX_CENTS, 40)],
)
def test_a_price_bucket_is_an_octave(price_cents: int | None, bucket: int) -> None:
    path = path_of(click("a", 0, "view_item", Item("shoe", None, price_cents)))
    assert rows(Encoder(WINDOW).encode(path))["price_bucket"][0] == bucket
    assert bucket < PRICE_BUCKETS


def test_the_longest_silence_has_a_bucket() -> None:
    encoded = rows(Encoder(WINDOW).encode(path_of(click("a", 0), click("b", MAX_TS_MS))))
    assert encoded["gap_bucket"][1] == 49 == GAP_BUCKETS - 1


def test_positions_in_a_long_session_stay_below_their_number() -> None:
    window = Window(steps=100)
    path = path_of(*[click(f"e-{n}", n) for n in range(100)], window=window)
    positions = rows(Encoder(window).encode(path))["session_position"]
    assert positions[:3] == [1, 2, 3]
    assert positions[-1] == max(positions) == 63 == SESSION_POSITIONS - 1


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 10), st.integers(0, 4_000_000), st.integers(0, 10**12)),
            st.integers(1, 21),
            st.one_of(st.just(0), st.integers(0, 2**63 - 1)),
            st.integers(-1, MAX_CENTS),
        ),
        max_size=90,
    )
)
def test_any_path_is_encoded_as_the_table_of_features_says(
    given_steps: list[tuple[int, int, int, int]],
) -> None:
    window = Window(steps=90)
    ts_ms = position = 0
    steps: list[Step] = []
    expected: list[list[int]] = []
    for gap_ms, action, token, price_cents in given_steps:
        first = not steps
        ts_ms += gap_ms
        position = 1 if first or gap_ms >= HALF_HOUR_MS else position + 1
        steps.append(Step(ts_ms, len(steps), action, token, token // 2, price_cents, 0, ()))
        price, gap = (price_cents + 1).bit_length(), 1 + gap_ms.bit_length()
        expected.append([action, token, token // 2, price, 0 if first else gap, min(position, 63)])
    padding = [[0] * FEATURES] * (90 - len(expected))
    encoded = Encoder(window).encode_steps(tuple(steps))
    assert list(encoded) == [of[n] for n in range(FEATURES) for of in (*expected, *padding)]


def test_a_full_path_has_no_padding() -> None:
    encoded = Encoder(WINDOW).encode(path_of(*[click(f"e-{n}", n) for n in range(9)]))
    assert path_length(encoded) == 4


def test_the_fingerprint_is_this_one_until_the_encoding_changes() -> None:
    assert Encoder(Window()).fingerprint == "d8f3679d3f7e23cf"


@pytest.mark.parametrize("field", ["steps", "session_gap_ms"])
def test_the_fingerprint_changes_with_what_changes_the_encoding(field: str) -> None:
    window = Window()
    other = replace(window, **{field: getattr(window, field) + 1})
    assert Encoder(other).fingerprint != Encoder(window).fingerprint


@pytest.mark.parametrize("field", ["lateness_ms", "pending_limit", "cart_lines"])
def test_the_fingerprint_stays_when_a_path_would_be_encoded_alike(field: str) -> None:
    window = Window()
    other = replace(window, **{field: getattr(window, field) + 1})
    assert Encoder(other).fingerprint == Encoder(window).fingerprint
