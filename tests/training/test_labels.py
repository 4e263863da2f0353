"""Labels: each head by hand, and what is not known yet."""

from clickpath.events import Click, Item
from clickpath.ids import token_hash
from clickpath.steps import Step, step_of
from clickpath.vocabulary import ACTION_ID
from training.labels import DAY_MS, HEADS, UNKNOWN, labels_of

MINUTE_MS = 60_000
GAP_MS = 30 * MINUTE_MS
HALF_DAY_MS = DAY_MS // 2


def step(ts_ms: int, action: str = "page_view", item: str = "", category: str = "") -> Step:
    items = (Item(item, category or None),) if item else ()
    return step_of(Click(f"e{ts_ms}", "u", ts_ms, action, action, items))


def labels(head: str, steps: list[Step], until_ms: int) -> list[int]:
    place = [each.name for each in HEADS].index(head)
    return [of_step[place] for of_step in labels_of(steps, until_ms, GAP_MS)]


def test_next_action_is_known_as_soon_as_it_comes() -> None:
    steps = [step(0), step(DAY_MS, "search"), step(DAY_MS + 1, "purchase")]
    assert labels("next_action", steps, DAY_MS + 2) == [
        ACTION_ID["search"],
        ACTION_ID["purchase"],
        0,
    ]


def test_next_item_and_category_are_those_of_the_next_step_that_has_one() -> None:
    steps = [step(0, item="a", category="x"), step(1), step(2 * GAP_MS, item="b", category="y")]
    steps.append(step(2 * GAP_MS + 1, item="c"))
    b, c, y = token_hash("b"), token_hash("c"), token_hash("y")
    assert labels("next_item", steps, 3 * GAP_MS) == [b, b, c, 0]
    assert labels("next_category", steps, 3 * GAP_MS) == [y, y, 0, 0]


def test_a_purchase_counts_for_the_steps_before_it_in_its_session() -> None:
    steps = [step(0), step(1, "purchase"), step(2), step(GAP_MS + 2), step(GAP_MS + 3)]
    assert labels("purchase", steps, 3 * GAP_MS) == [1, 0, 0, 0, 0]
    assert labels("purchase", steps, 2 * GAP_MS) == [1, 0, 0, UNKNOWN, UNKNOWN]


def test_a_session_that_may_go_on_tells_neither_yes_nor_no() -> None:
    steps = [step(0), step(1, "purchase")]
    assert labels("purchase", steps, GAP_MS) == [UNKNOWN, UNKNOWN]
    assert labels("purchase", steps, GAP_MS + 1) == [1, 0]


def test_a_user_leaves_with_the_last_step_before_the_gap() -> None:
    steps = [step(0), step(1), step(GAP_MS + 1), step(GAP_MS + 2)]
    assert labels("leave", steps, 2 * GAP_MS + 2) == [0, 1, 0, 1]
    assert labels("leave", steps, 2 * GAP_MS + 1) == [0, 1, 0, UNKNOWN]
    assert labels("leave", steps, 2 * GAP_MS) == [0, 1, UNKNOWN, UNKNOWN]


def test_a_return_counts_from_the_end_of_the_session_and_for_all_its_steps() -> None:
    back_ms = 1 + 7 * DAY_MS
    steps = [step(0), step(1), step(back_ms)]
    assert labels("return_7d", steps, back_ms + 1) == [1, 1, UNKNOWN]
    too_late = [step(0), step(1), step(back_ms + 1)]
    assert labels("return_7d", too_late, back_ms + 2) == [0, 0, UNKNOWN]
    assert labels("return_7d", too_late, back_ms + 3 + 7 * DAY_MS) == [0, 0, 0]


def test_an_early_return_is_not_told_before_a_late_one_could_be() -> None:
    steps = [step(0), step(HALF_DAY_MS)]
    assert labels("return_7d", steps, DAY_MS) == [UNKNOWN, UNKNOWN]
    assert labels("return_7d", steps, 7 * DAY_MS + 1) == [1, UNKNOWN]


def test_a_repeat_purchase_is_asked_on_purchases_only() -> None:
    steps = [step(0), step(1, "purchase"), step(2), step(30 * DAY_MS + 1, "purchase")]
    assert labels("repeat_purchase", steps, 40 * DAY_MS) == [UNKNOWN, 1, UNKNOWN, UNKNOWN]
    late = [step(1, "purchase"), step(30 * DAY_MS + 2, "purchase")]
    assert labels("repeat_purchase", late, 70 * DAY_MS) == [0, 0]
    assert labels("repeat_purchase", late, 30 * DAY_MS + 1) == [UNKNOWN, UNKNOWN]


def test_no_label_depends_on_what_comes_later_than_the_moment() -> None:
    steps = [step(n * HALF_DAY_MS, "purchase" if n % 3 else "search") for n in range(200)]
    until_ms = 100 * HALF_DAY_MS
    assert labels_of(steps[:100], until_ms, GAP_MS) == labels_of(
        [each for each in steps if each.ts_ms < until_ms], until_ms, GAP_MS
    )


def test_the_unknown_label_of_a_yes_or_no_is_neither() -> None:
    assert {head.kind: head.unknown for head in HEADS} == {"action": 0, "token": 0, "binary": -1}


def test_nothing_is_known_of_a_step_at_the_very_moment() -> None:
    (only,) = labels_of([step(5)], 6, GAP_MS)
    assert only == (0, 0, 0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
