"""Each rule on the path, at both of its ends."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from clickpath.decision import decision_point
from clickpath.eligibility import Band, Rules, compile_rules, eligible_kinds
from clickpath.errors import ConfigError
from clickpath.events import Click, Item
from clickpath.policy_file import default_policy
from clickpath.window import EMPTY_PATH, PathState, Window, push

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_000_000


def path_of(*events: tuple[int, str]) -> PathState:
    """A path of (milliseconds since the start, action); every item costs 1000, two pieces."""
    path = EMPTY_PATH
    for n, (after_ms, action) in enumerate(events):
        items = (Item("shoe", None, 1_000, 2),) if "cart" in action else ()
        click = Click(f"e{n}", "ann", START_MS + after_ms, action, action, items)
        path, _ = push(path, click, Window())
    return path


def holds(rules: Rules, path: PathState) -> bool:
    return eligible([("coupon", rules)], path) == ("coupon",)


def eligible(kinds: Iterable[tuple[str, Rules]], path: PathState) -> tuple[str, ...]:
    return eligible_kinds(compile_rules(kinds), path.steps[-1].action, path.tip, path.tip.last_ms)


VISIT = path_of((0, "page_view"), (MINUTE_MS, "add_to_cart"), (3 * MINUTE_MS, "view_item"))
TWO_VISITS = path_of(
    (0, "view_item"), (MINUTE_MS, "purchase"), (DAY_MS, "page_view"), (DAY_MS + 1, "view_item")
)


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (VISIT, "session_events", 3),
        (TWO_VISITS, "session_events", 2),
        (VISIT, "session_number", 1),
        (TWO_VISITS, "session_number", 2),
        (VISIT, "session_age_ms", 3 * MINUTE_MS),
        (TWO_VISITS, "session_age_ms", 1),
        (TWO_VISITS, "absence_ms", DAY_MS - MINUTE_MS),
        (TWO_VISITS, "lifetime_events", 4),
        (VISIT, "revenue_cents", 0),
        (VISIT, "cart_value_cents", 2_000),
        (VISIT, "cart_pieces", 2),
        (TWO_VISITS, "cart_pieces", 0),
    ],
)
def test_a_band_includes_both_of_its_ends(path: PathState, field: str, value: int) -> None:
    assert holds(Rules(after=("view_item",), **{field: Band(value, value)}), path)
    assert holds(Rules(after=("view_item",), **{field: Band(None, value)}), path)
    assert holds(Rules(after=("view_item",), **{field: Band(value, None)}), path)
    assert not holds(Rules(after=("view_item",), **{field: Band(value + 1, None)}), path)
    assert not holds(Rules(after=("view_item",), **{field: Band(None, value - 1)}), path)


@pytest.mark.parametrize(
    ("path", "field", "action", "value"),
    [
        (TWO_VISITS, "session_counts", "view_item", 1),
        (TWO_VISITS, "session_counts", "purchase", 0),
        (TWO_VISITS, "lifetime_counts", "view_item", 2),
        (TWO_VISITS, "lifetime_counts", "purchase", 1),
        (TWO_VISITS, "since_ms", "purchase", DAY_MS + 1 - MINUTE_MS),
        (TWO_VISITS, "since_ms", "view_item", 0),
    ],
)
def test_a_band_of_an_action_includes_both_of_its_ends(
    path: PathState, field: str, action: str, value: int
) -> None:
    def rules(band: Band) -> Rules:
        return Rules(after=("view_item",), **{field: ((action, band),)})

    assert holds(rules(Band(value, value)), path)
    assert not holds(rules(Band(value + 1, None)), path)
    assert not holds(rules(Band(None, value - 1)), path)


def test_never_is_longer_ago_than_any_time() -> None:
    def since(band: Band) -> Rules:
        return Rules(after=("view_item",), since_ms=(("refund", band),))

    assert holds(since(Band(10**12, None)), VISIT)
    assert not holds(since(Band(None, 10**12)), VISIT)


def test_a_first_session_has_no_absence_before_it() -> None:
    assert not holds(Rules(after=("view_item",), absence_ms=Band(0, None)), VISIT)
    assert not holds(Rules(after=("view_item",), absence_ms=Band(None, 10**12)), VISIT)


def test_an_absence_is_known_after_the_path_has_forgotten_the_session_before() -> None:
    visits = [(n * MINUTE_MS, "view_item") for n in range(3)]
    again = [(DAY_MS + n * 11 * MINUTE_MS, "view_item") for n in range(60)]
    rules = Rules(after=("view_item",), absence_ms=Band(HOUR_MS, None))

    assert holds(rules, path_of(*visits, *again[:40]))
    assert holds(rules, path_of(*visits, *again))


def test_only_the_newest_action_opens_a_kind() -> None:
    assert not holds(Rules(after=("page_view", "add_to_cart")), VISIT)
    assert holds(Rules(after=("page_view", "view_item")), VISIT)


def test_all_rules_have_to_hold() -> None:
    good, bad = Band(1, None), Band(99, None)

    assert holds(Rules(after=("view_item",), cart_pieces=good, session_events=good), VISIT)
    assert not holds(Rules(after=("view_item",), cart_pieces=good, session_events=bad), VISIT)


def test_eligible_kinds_come_by_priority() -> None:
    kinds = [(name, Rules(after=("view_item",))) for name in ("support", "coupon", "guidance")]

    assert eligible(kinds, VISIT) == ("support", "coupon", "guidance")


def test_rules_know_their_actions() -> None:
    with pytest.raises(ConfigError, match="'buy' is no action"):
        Rules(after=("buy",))
    with pytest.raises(ConfigError, match="at least one action"):
        Rules(after=())


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([(0, "page_view")], None),
        ([(0, "search"), (1, "search"), (2, "search")], ("guidance",)),
        ([(n, "view_item") for n in range(4)], ("recommendation",)),
        ([(0, "add_to_cart"), (1, "add_to_cart"), (3 * MINUTE_MS, "view_cart")], ("coupon",)),
        (
            [(n * MINUTE_MS, a) for n, a in enumerate(["begin_checkout", "view_cart"] * 2)],
            ("support",),
        ),
        ([(0, "view_item"), (15 * DAY_MS, "page_view")], ("retention",)),
        (
            [(0, "add_to_cart"), (DAY_MS, "page_view"), (DAY_MS + 9, "view_item_list")],
            ("reminder",),
        ),
        ([(0, "add_to_cart"), (DAY_MS, "page_view"), (DAY_MS + 9, "purchase")], None),
    ],
)
def test_the_default_policy_finds_the_plain_case_of_each_kind(
    events: list[tuple[int, str]], kinds: tuple[str, ...] | None
) -> None:
    path = path_of(*events)

    point = decision_point(default_policy(), "ann", "e", path, path.tip.last_ms)

    assert (point and point.kinds) == kinds
