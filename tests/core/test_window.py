"""The rules at the head of `clickpath.window`, one by one and against a naive oracle."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickpath.errors import ConfigError
from clickpath.events import MAX_CENTS, MAX_QUANTITY, Click, Item
from clickpath.ids import event_hash, token_hash
from clickpath.steps import UNKNOWN_PRICE, Line, Step, pack_hashes, pack_numbers, step_of
from clickpath.summary import EMPTY_SUMMARY, NO_ABSENCE, cart_pieces, cart_value_cents
from clickpath.vocabulary import ACTION_ID
from clickpath.window import (
    EMPTY_PATH,
    OpenPath,
    PathState,
    Verdict,
    Window,
    fold_all,
    path_of,
    push,
)
from clickpath.wire.state import dump_path, load_path

SMALL = Window(steps=4, lateness_ms=100, session_gap_ms=60, cart_lines=2)
MINUTE_MS = 60_000


def click(
    event_id: str,
    ts_ms: int,
    action: str = "page_view",
    *items: Item,
    value_cents: int | None = None,
) -> Click:
    return Click(event_id, "ada", ts_ms, action, action, items, value_cents)


def pushed(clicks: Iterable[Click], window: Window = SMALL) -> tuple[PathState, list[Verdict]]:
    path, verdicts = EMPTY_PATH, []
    for each in clicks:
        path, verdict = push(path, each, window)
        verdicts.append(verdict)
    return path, verdicts


def times(path: PathState) -> list[int]:
    return [step.ts_ms for step in path.steps]


# ------------------------------------------------------------------------------------- the oracle

items = st.builds(
    Item,
    st.sampled_from(["hat", "sock", "shoe"]),
    st.sampled_from([None, "wear"]),
    st.none() | st.integers(0, 500),
    st.integers(0, 3),
)
kinds = st.sampled_from(["view_item", "add_to_cart", "remove_from_cart", "purchase", "refund"])
events = st.lists(
    st.tuples(st.integers(0, 400), kinds, st.lists(items, max_size=2)), max_size=25
).map(
    lambda drawn: [
        click(f"e-{n}", ts_ms, kind, *each) for n, (ts_ms, kind, each) in enumerate(drawn)
    ]
)
windows = st.builds(
    Window,
    steps=st.integers(1, 6),
    lateness_ms=st.integers(0, 150),
    session_gap_ms=st.integers(1, 80),
    cart_lines=st.integers(1, 3),
)


def expected(accepted: Iterable[Click], window: Window) -> PathState:
    """The path of some events, from scratch: sort everything, fold, cut off."""
    steps = sorted(map(step_of, accepted), key=lambda step: (step.ts_ms, step.event))
    if not steps:
        return EMPTY_PATH
    watermark_ms = steps[-1].ts_ms - window.lateness_ms
    settled = [step for step in steps if step.ts_ms < watermark_ms]
    pending = len(steps) - len(settled)
    kept = steps[-max(window.steps, pending) :]
    kept = [each._replace(lines=()) if each in settled else each for each in kept]
    base = fold_all(EMPTY_SUMMARY, settled, window)
    hashes, numbers = pack_hashes(kept), b"".join(map(pack_numbers, kept))
    path = path_of(tuple(kept), hashes, numbers, len(kept) - pending, base, window)
    assert path.tip == fold_all(EMPTY_SUMMARY, steps, window)
    return path


@given(events, windows, st.data())
def test_every_order_inside_the_lateness_bound_ends_in_the_same_bytes(
    clicks: list[Click], window: Window, data: st.DataObject
) -> None:
    delays = st.integers(0, window.lateness_ms)
    arrival = sorted(
        data.draw(st.permutations(clicks)), key=lambda each: each.ts_ms + data.draw(delays)
    )
    for _ in range(data.draw(st.integers(0, 5)) if arrival else 0):
        first = data.draw(st.integers(0, len(arrival) - 1))
        arrival.insert(data.draw(st.integers(first + 1, len(arrival))), arrival[first])

    path, verdicts = pushed(arrival, window)

    assert sum(verdict.accepted for verdict in verdicts) == len(clicks)
    assert path == expected(clicks, window)
    assert dump_path(path) == dump_path(expected(clicks, window))


@given(events, windows, st.data())
def test_any_order_with_late_events_and_copies_ends_as_the_oracle_says(
    clicks: list[Click], window: Window, data: st.DataObject
) -> None:
    arrival = data.draw(st.permutations([*clicks, *clicks[:5]]))
    path = EMPTY_PATH
    accepted: dict[str, Click] = {}
    for each in arrival:
        before = path
        path, verdict = push(path, each, window)
        newest_ms = max((known.ts_ms for known in accepted.values()), default=0)
        if each.event_id in accepted or each.ts_ms < newest_ms - window.lateness_ms:
            assert not verdict.accepted
            assert path is before
        else:
            accepted[each.event_id] = each
            head = path.steps[-1].event == event_hash(each.event_id)
            assert verdict is (Verdict.HEAD if head else Verdict.INSERTED)
        assert path == expected(accepted.values(), window)


@given(events, windows, st.data())
def test_a_path_read_back_from_its_bytes_goes_on_as_if_nothing_happened(
    clicks: list[Click], window: Window, data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(clicks)))
    path, _ = pushed(clicks[:stop], window)
    path = load_path(dump_path(path), window)
    for each in clicks[stop:]:
        path, _ = push(path, each, window)
    assert path == pushed(clicks, window)[0]


@given(events, st.integers(1, 8), st.integers(1, 8))
def test_memory_is_bounded_and_no_event_counts_twice_however_fast_a_user_is(
    clicks: list[Click], pending_limit: int, steps: int
) -> None:
    window = Window(steps=steps, lateness_ms=10**6, pending_limit=pending_limit, cart_lines=2)
    path, accepted = EMPTY_PATH, 0
    for each in [*clicks, *clicks]:
        path, verdict = push(path, each, window)
        accepted += verdict.accepted
        assert len(path.steps) <= max(pending_limit, steps)
        assert len(path.steps) - path.settled <= pending_limit
        assert sum(len(step.lines) for step in path.steps) <= pending_limit
        assert len(path.tip.cart) <= 2
    assert path.tip.events == accepted <= len(clicks)


@given(events, st.integers(1, 6), st.integers(1, 8), st.data())
def test_a_path_that_is_written_ends_alike_wherever_values_were_taken_of_it(
    clicks: list[Click], steps: int, pending_limit: int, data: st.DataObject
) -> None:
    window = Window(steps=steps, lateness_ms=100, session_gap_ms=60, pending_limit=pending_limit)
    arrival = data.draw(st.permutations([*clicks, *clicks[:5]]))
    written, path = OpenPath(EMPTY_PATH, window), EMPTY_PATH
    for each in arrival:
        path, verdict = push(path, each, window)
        assert written.push(step_of(each)) is verdict
        if data.draw(st.booleans()):
            assert written.state() == path
    assert written.state() == path


@given(events, windows)
def test_a_view_has_the_newest_steps_and_the_tip_with_nothing_pending(
    clicks: list[Click], window: Window
) -> None:
    written = OpenPath(EMPTY_PATH, window)
    for each in clicks:
        written.push(step_of(each))
        path, view = written.state(), written.view()
        newest = path.steps[-window.steps :]
        assert view.steps == tuple(step._replace(lines=()) for step in newest)
        assert (view.settled, view.base, view.tip) == (len(view.steps), path.tip, path.tip)
        assert load_path(dump_path(view), window) == view


# ------------------------------------------------------------------------------------ single rules


def test_steps_are_in_order_of_time_and_then_of_the_hash() -> None:
    path, verdicts = pushed([click("b", 20), click("a", 10), click("c", 20)])
    assert times(path) == [10, 20, 20]
    assert [step.event for step in path.steps[1:]] == sorted([event_hash("b"), event_hash("c")])
    assert verdicts[:2] == [Verdict.HEAD, Verdict.INSERTED]


def test_an_event_at_the_watermark_is_in_time_and_one_before_it_is_late() -> None:
    newest = click("new", 1_000)
    assert pushed([newest, click("at", 900)])[1] == [Verdict.HEAD, Verdict.INSERTED]
    path, verdicts = pushed([newest, click("before", 899)])
    assert verdicts == [Verdict.HEAD, Verdict.LATE]
    assert path == pushed([newest])[0]


def test_a_settled_step_is_in_the_base_and_a_pending_one_is_not() -> None:
    path, _ = pushed([click("a", 0), click("b", 1), click("c", 101)])
    assert (path.settled, path.base.events, path.tip.events) == (1, 1, 3)


def test_of_two_events_with_one_id_the_first_to_arrive_stays() -> None:
    path, verdicts = pushed([click("a", 10, "search"), click("a", 20, "login")])
    assert verdicts == [Verdict.HEAD, Verdict.DUPLICATE]
    assert [step.action for step in path.steps] == [ACTION_ID["search"]]


def test_all_pending_steps_are_kept_and_of_the_settled_ones_what_the_path_needs() -> None:
    crowd = [click(f"e-{n}", n) for n in range(10)]
    assert len(pushed(crowd)[0].steps) == 10
    path, _ = pushed([*crowd, click("later", 500)])
    assert times(path) == [7, 8, 9, 500]
    assert (path.settled, path.base.events) == (3, 10)


def test_a_user_who_is_too_fast_settles_early_and_what_comes_before_is_late() -> None:
    window = Window(steps=1, lateness_ms=1_000, pending_limit=2)
    path, _ = pushed([click("a", 10), click("b", 20), click("c", 30)], window)
    assert (times(path), path.base.last_ms) == ([20, 30], 10)
    assert push(path, click("between", 15), window)[1] is Verdict.INSERTED
    assert push(path, click("before", 9), window)[1] is Verdict.LATE


def test_a_copy_of_a_step_that_settled_early_and_was_forgotten_counts_no_second_time() -> None:
    window = Window(steps=1, lateness_ms=1_000, pending_limit=2)
    path, _ = pushed([click("a", 10), click("b", 20), click("c", 30)], window)
    assert not push(path, click("a", 10), window)[1].accepted


def test_a_session_ends_with_a_silence_of_thirty_minutes_inclusive() -> None:
    gap_ms = 30 * MINUTE_MS
    one = pushed([click("a", 0), click("b", gap_ms - 1)], Window())[0].tip
    assert (one.sessions, one.session_start_ms) == (1, 0)
    two = pushed([click("a", 0), click("b", gap_ms)], Window())[0].tip
    assert (two.sessions, two.session_start_ms) == (2, gap_ms)
    assert (one.absence_ms, two.absence_ms) == (NO_ABSENCE, gap_ms)


def test_counters_cover_a_life_and_a_session() -> None:
    search, login = ACTION_ID["search"], ACTION_ID["login"]
    path, _ = pushed([click("a", 0, "search"), click("b", 10, "login"), click("c", 500, "search")])
    tip = path.tip
    assert (tip.events, tip.sessions, tip.last_ms) == (3, 2, 500)
    assert (tip.counts[search], tip.counts[login]) == (2, 1)
    assert (tip.counts_before_session[search], tip.counts_before_session[login]) == (1, 1)
    assert (tip.last_by_action_ms[search], tip.last_by_action_ms[login]) == (500, 10)


def test_the_cart_holds_what_was_added_and_not_taken_out() -> None:
    path, _ = pushed(
        [
            click("a", 0, "add_to_cart", Item("sock", None, 350, 3)),
            click("b", 1, "add_to_cart", Item("shoe", None, 4999, 1)),
            click("c", 2, "remove_from_cart", Item("sock", None, None, 1)),
        ]
    )
    assert path.tip.cart == (Line("shoe", 1, 4999), Line("sock", 2, 350))
    assert (cart_value_cents(path.tip.cart), cart_pieces(path.tip.cart)) == (5699, 3)
    path, _ = push(path, click("d", 3, "remove_from_cart", Item("sock", quantity=9)), SMALL)
    assert path.tip.cart == (Line("shoe", 1, 4999),)


def test_the_cart_forgets_its_oldest_product_beyond_its_limit() -> None:
    added = [click(f"e-{n}", n, "add_to_cart", Item(f"i-{n}")) for n in range(3)]
    assert pushed(added)[0].tip.cart == (
        Line("i-1", 1, UNKNOWN_PRICE),
        Line("i-2", 1, UNKNOWN_PRICE),
    )


def test_a_product_of_unknown_price_is_worth_nothing_in_the_cart() -> None:
    path, _ = pushed([click("a", 0, "add_to_cart", Item("sock"))])
    assert (cart_value_cents(path.tip.cart), cart_pieces(path.tip.cart)) == (0, 1)


def test_a_purchase_empties_the_cart_and_a_refund_takes_revenue_back() -> None:
    path, _ = pushed(
        [
            click("a", 0, "add_to_cart", Item("shoe", None, 4999)),
            click("b", 1, "purchase", Item("shoe", None, 4999, 2)),
        ]
    )
    assert (path.tip.cart, path.tip.revenue_cents) == ((), 9998)
    path, _ = push(path, click("c", 2, "refund", value_cents=998), SMALL)
    assert path.tip.revenue_cents == 9000


def test_a_step_keeps_the_first_item_and_the_worth_of_all() -> None:
    step = step_of(click("a", 5, "add_to_cart", Item("shoe", "wear", 100, 2), Item("sock")))
    assert step == Step(
        ts_ms=5,
        event=event_hash("a"),
        action=ACTION_ID["add_to_cart"],
        item=token_hash("shoe"),
        category=token_hash("wear"),
        price_cents=100,
        value_cents=200,
        lines=(Line("shoe", 2, 100), Line("sock", 1, UNKNOWN_PRICE)),
    )


def test_a_step_without_items_has_no_item_and_no_price() -> None:
    step = step_of(click("a", 5, "view_cart", value_cents=70))
    assert (step.item, step.category, step.price_cents, step.value_cents, step.lines) == (
        0,
        0,
        UNKNOWN_PRICE,
        70,
        (),
    )


def test_a_worth_that_is_derived_stays_within_what_may_be_sent() -> None:
    dear = Item("yacht", None, MAX_CENTS, MAX_QUANTITY)
    path, _ = pushed([click("a", 0, "purchase", *[dear] * 200)])
    assert path.tip.revenue_cents == MAX_CENTS
    assert load_path(dump_path(path), SMALL) == path


@pytest.mark.parametrize("name", ["steps", "session_gap_ms", "pending_limit", "cart_lines"])
def test_a_bound_of_zero_is_refused_with_its_value(name: str) -> None:
    with pytest.raises(ConfigError, match=f"window.{name} is 0, must be at least 1"):
        Window(**{name: 0})


def test_a_lateness_of_zero_takes_events_in_order_only() -> None:
    window = Window(lateness_ms=0)
    path, verdicts = pushed([click("a", 10), click("b", 10), click("c", 9)], window)
    assert verdicts[2] is Verdict.LATE
    assert path.tip.events == 2


def test_copies_are_found_among_many_steps_too() -> None:
    window = Window(steps=50, lateness_ms=10**6, pending_limit=300)
    crowd = [click(f"e-{n}", n) for n in range(400)]
    path, _ = pushed(crowd, window)
    written = OpenPath(path, window)
    assert written.push(step_of(click("e-399", 500))) is Verdict.DUPLICATE
    assert written.push(step_of(click("new", 400))) is Verdict.HEAD
    assert written.push(step_of(click("new", 401))) is Verdict.DUPLICATE
    assert written.push(step_of(crowd[0])) is Verdict.LATE  # settled early and forgotten
    assert written.state() == push(path, click("new", 400), window)[0]
