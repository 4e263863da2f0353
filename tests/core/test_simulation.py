"""The simulated shop: repeatable, in order, plausible, with effects that are really there."""

from collections import Counter, defaultdict
from hashlib import sha256
from itertools import islice, pairwise

import pytest

from clickpath.errors import BadEvent, UsageError
from clickpath.events import Click
from clickpath.simulation import PERSONAS, START_MS, Shopper, simulate, true_effect
from clickpath.simulation.draws import Draws
from clickpath.simulation.faults import (
    FAULTS,
    SENDABLE_FAULTS,
    shuffled_within,
    with_broken,
    with_duplicates,
)
from clickpath.window import EMPTY_PATH, PathState, Verdict, Window, push
from clickpath.wire import click_to_json, parse

SESSION_GAP_MS = 30 * 60_000


def test_the_draws_are_those_of_splitmix64_on_every_machine() -> None:
    draws = Draws()
    # Reference output of SplitMix64 for the seed 0.
    assert [draws.bits() for _ in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_the_same_seed_gives_the_same_clicks_in_every_process() -> None:
    text = "\n".join(map(repr, simulate(2_000, 100, seed=7)))
    assert sha256(text.encode()).hexdigest()[:16] == "05ab210c3b0e1943"


def test_another_seed_gives_other_shoppers_in_the_same_shop() -> None:
    one, other = list(simulate(2_000, 100, seed=1)), list(simulate(2_000, 100, seed=2))
    assert not {c.event_id for c in one} & {c.event_id for c in other}
    prices = {i.item_id: i.price_cents for c in one for i in c.items}
    assert all(
        prices.get(i.item_id, i.price_cents) == i.price_cents for c in other for i in c.items
    )


@pytest.mark.parametrize("events", [0, 1, 999])
def test_it_makes_exactly_as_many_events_as_asked(events: int) -> None:
    assert len(list(simulate(events, 10, seed=3))) == events


def test_fewer_events_are_the_beginning_of_more() -> None:
    assert list(simulate(500, 30, seed=4)) == list(islice(simulate(5_000, 30, seed=4), 500))


def test_clicks_come_in_order_of_time_with_unique_ids() -> None:
    clicks = list(simulate(5_000, 50, seed=5))
    assert clicks[0].ts_ms >= START_MS
    assert all(a.ts_ms <= b.ts_ms for a, b in pairwise(clicks))
    assert len({c.event_id for c in clicks}) == len(clicks)


@pytest.mark.parametrize(("events", "users"), [(-1, 1), (1, 0)])
def test_nothing_can_be_simulated_without_users(events: int, users: int) -> None:
    with pytest.raises(UsageError, match="cannot simulate"):
        simulate(events, users, seed=1)


def test_the_rates_are_those_of_a_shop() -> None:
    sessions, buyers, last_ms = 0, set(), dict[str, int]()
    actions = Counter[str]()
    for click in simulate(40_000, 400, seed=6):
        actions[click.action] += 1
        if click.ts_ms - last_ms.get(click.user_id, 0) >= SESSION_GAP_MS:
            sessions += 1
        last_ms[click.user_id] = click.ts_ms
        if click.action == "purchase":
            buyers.add((click.user_id, sessions))
    assert 8 <= 40_000 / sessions <= 20
    assert 0.03 <= len(buyers) / sessions <= 0.09
    assert actions["view_item"] == max(actions.values())
    assert actions["purchase"] <= actions["begin_checkout"] <= actions["view_cart"]
    assert set(actions) >= {"refund", "contact_support", "apply_coupon", "other", "sign_up"}


def test_the_shares_of_the_personas_are_percentages() -> None:
    assert sum(p.share_pct for p in PERSONAS) == 100


@pytest.mark.parametrize(
    ("persona", "kind"),
    [("bargain_hunter", "coupon"), ("struggler", "support"), ("researcher", "recommendation")],
)
def test_an_intervention_that_helps_makes_its_persona_buy_more(persona: str, kind: str) -> None:
    assert true_effect(persona, kind) > 1

    def orders(kind_given: str | None) -> int:
        count = 0

        def intervene(click: Click, shopper: Shopper) -> str | None:
            nonlocal count
            if shopper.persona.name != persona:
                return None
            count += click.action == "purchase"
            return kind_given if click.action == "page_view" else None

        for _ in simulate(40_000, 400, seed=8, interventions=intervene):
            pass
        return count

    assert orders(kind) > 1.3 * orders(None)


def test_an_intervention_changes_nobody_elses_path() -> None:
    def intervene(click: Click, shopper: Shopper) -> str | None:
        return "coupon" if shopper.user_id == "user-000003" else None

    def others(clicks: list[Click]) -> list[Click]:
        return [c for c in clicks if c.user_id != "user-000003"][:4_000]

    without = list(simulate(6_000, 20, seed=9))
    changed = list(simulate(6_000, 20, seed=9, interventions=intervene))
    assert others(changed) == others(without)
    assert changed != without


def states(clicks: list[Click], window: Window) -> tuple[dict[str, PathState], Counter[Verdict]]:
    paths: dict[str, PathState] = defaultdict(lambda: EMPTY_PATH)
    verdicts = Counter[Verdict]()
    for click in clicks:
        paths[click.user_id], verdict = push(paths[click.user_id], click, window)
        verdicts[verdict] += 1
    return dict(paths), verdicts


def test_disorder_and_copies_leave_the_same_states_and_make_nothing_late() -> None:
    window = Window()
    clicks = list(simulate(4_000, 20, seed=10))
    copied = list(with_duplicates(clicks, 0.1, seed=1))
    shuffled = list(shuffled_within(copied, window.lateness_ms, seed=1))
    assert 300 < len(copied) - len(clicks) < 500
    assert shuffled != copied
    expected, _ = states(clicks, window)
    got, verdicts = states(shuffled, window)
    assert got == expected
    assert verdicts[Verdict.LATE] == 0
    assert verdicts[Verdict.DUPLICATE] == len(copied) - len(clicks)
    assert verdicts[Verdict.INSERTED] > 100


RECORD = (
    b'{"event_id":"e1","type":"page_view","user_id":"u1","ts_ms":1735689600000,'
    b'"items":[],"value_cents":null}'
)


def test_a_share_of_the_records_is_broken_and_can_be_repaired() -> None:
    sent = list(with_broken([RECORD] * 5_000, 0.1, seed=2))
    broken = [s for s in sent if s.code is not None]
    assert 400 < len(broken) < 600
    assert {s.code for s in broken} == set(SENDABLE_FAULTS)
    assert all(s.original == RECORD for s in sent)
    assert all(s.value == RECORD for s in sent if s.code is None)


def test_a_fault_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="'gremlins'"):
        list(with_broken([RECORD], 1.0, seed=1, codes=("gremlins",)))


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_every_fault_is_answered_with_its_reason_code(code: str) -> None:
    (click,) = simulate(1, 1, seed=1)
    (sent,) = with_broken([click_to_json(click)], 1.0, seed=1, codes=(code,))
    assert sent.code == code
    with pytest.raises(BadEvent) as caught:
        parse(sent.value, (), now_ms=click.ts_ms)
    assert caught.value.code == code
