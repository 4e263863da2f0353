"""Decisions: choice, probabilities, caps, exploration, holdout, fallback."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickpath.decision import (
    AVOIDED,
    REASONS,
    SUPPRESSIONS,
    Decision,
    DecisionPoint,
    Digests,
    avoids_inference,
    decide,
    in_holdout,
)
from clickpath.eligibility import Band, Rules
from clickpath.ids import decision_id
from clickpath.ledger import Ledger, Sent
from clickpath.policy import KINDS, NOTHING, Cap, Kind, Offer, Policy
from clickpath.scores import Scores
from clickpath.vocabulary import ACTION_COUNT
from clickpath.window import EMPTY_PATH

DIGESTS = Digests("m", "p", "e")
HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000
LIKELY = Scores((0.0, *[1 / (ACTION_COUNT - 1)] * (ACTION_COUNT - 1)), 0.9)
UNLIKELY = replace(LIKELY, purchase=0.1)
FEW_BUY = (("purchase", Band(None, 0.5)),)


def kind(name: str, priority: int, offers: int = 1, **fields: object) -> Kind:
    return Kind(
        name=name,
        priority=priority,
        rules=Rules(after=("view_item",)),
        offers=tuple(Offer(offer_id=f"o{n}") for n in range(offers)),
        expires_after_ms=HOUR_MS,
        **fields,  # type: ignore[arg-type]
    )


def policy_of(*kinds: Kind, **fields: object) -> Policy:
    return Policy(name="test", kinds=kinds, **fields)  # type: ignore[arg-type]


def point_of(
    policy: Policy, event_id: str = "e1", now_ms: int = NOW_MS, holdout: bool = False
) -> DecisionPoint:
    kinds = tuple(kind.name for kind in policy.kinds)
    return DecisionPoint("ann", event_id, now_ms, EMPTY_PATH, kinds, holdout)


def decided(policy: Policy, scores: Scores | None = UNLIKELY, ledger: Ledger = ()) -> Decision:
    return decide(point_of(policy), scores, None, policy, ledger, DIGESTS)[0]


def test_the_greatest_priority_whose_thresholds_hold_is_sent() -> None:
    policy = policy_of(
        kind("coupon", 3, scores=FEW_BUY),
        kind("reminder", 2, scores=(("next.search", Band(0.5, None)),)),
        kind("guidance", 1),
    )

    assert decided(policy, UNLIKELY).kind == "coupon"
    assert decided(policy, LIKELY).kind == "guidance"
    assert decided(policy, LIKELY).reason == "sent"


def test_nothing_is_sent_when_no_threshold_holds() -> None:
    decision = decided(policy_of(kind("coupon", 1, scores=FEW_BUY)), LIKELY)

    assert (decision.kind, decision.offer, decision.intervention) == (None, None, None)
    assert decision.reason == "score_outside_thresholds"
    assert decision.scores == LIKELY
    assert dict(decision.action_set) == {NOTHING: 1.0, "coupon/o0": 0.0}


def test_an_intervention_carries_what_a_consumer_needs_and_its_decision_s_id() -> None:
    decision = decided(policy_of(kind("coupon", 1)))

    sent = decision.intervention
    assert sent is not None
    assert sent.intervention_id == decision.decision_id == decision_id("ann", "e1")
    assert (sent.kind, sent.offer, sent.user_id, sent.event_id) == ("coupon", "o0", "ann", "e1")
    assert (sent.created_ms, sent.expires_ms) == (NOW_MS, NOW_MS + HOUR_MS)
    assert (sent.model, sent.policy) == ("m", "p")


def test_a_sent_intervention_enters_the_ledger_and_nothing_else_does() -> None:
    policy = policy_of(kind("coupon", 1, caps=(Cap(1, HOUR_MS),), scores=FEW_BUY))

    _, after = decide(point_of(policy), UNLIKELY, None, policy, (), DIGESTS)
    unsent, same = decide(point_of(policy), UNLIKELY, None, policy, after, DIGESTS)

    assert after == (Sent("coupon", NOW_MS),)
    assert unsent.reason == "suppressed_cap"
    assert unsent.suppressed == (("coupon", "cap"),)
    assert same is after


@pytest.mark.parametrize(
    ("fields", "own", "why"),
    [
        ({}, {"caps": (Cap(2, HOUR_MS),)}, "cap"),
        ({}, {"cool_down_ms": HOUR_MS}, "cool_down"),
        ({"caps": (Cap(2, HOUR_MS),)}, {}, "global_cap"),
        ({"cool_down_ms": HOUR_MS}, {}, "global_cool_down"),
    ],
)
def test_a_limit_reaches_back_from_now_and_no_further(
    fields: dict[str, object], own: dict[str, object], why: str
) -> None:
    policy = policy_of(kind("coupon", 1, scores=FEW_BUY, **own), **fields)
    inside = (Sent("coupon", NOW_MS - HOUR_MS + 1), Sent("coupon", NOW_MS - HOUR_MS + 1))
    outside = (Sent("coupon", NOW_MS - HOUR_MS), Sent("coupon", NOW_MS - HOUR_MS))

    held_back = decided(policy, ledger=inside)
    assert (held_back.reason, held_back.suppressed) == (f"suppressed_{why}", (("coupon", why),))
    assert decided(policy, ledger=outside).reason == "sent"


def test_a_limit_on_one_kind_leaves_the_others_free() -> None:
    policy = policy_of(kind("coupon", 2, cool_down_ms=HOUR_MS), kind("guidance", 1))

    decision = decided(policy, ledger=(Sent("coupon", NOW_MS - 1),))

    assert decision.kind == "guidance"
    assert decision.suppressed == (("coupon", "cool_down"),)
    assert [name for name, _ in decision.action_set] == [NOTHING, "guidance/o0"]


def test_scores_that_are_of_no_use_are_not_recorded() -> None:
    policy = policy_of(kind("coupon", 1, scores=FEW_BUY, cool_down_ms=HOUR_MS))
    ledger = (Sent("coupon", NOW_MS - 1),)

    for holdout, sent in ((True, ()), (False, ledger)):
        point = point_of(policy, holdout=holdout)
        with_scores, _ = decide(point, LIKELY, None, policy, sent, DIGESTS)
        without, _ = decide(point, None, "predictor_timeout", policy, sent, DIGESTS)
        assert with_scores == without
        assert with_scores.scores is None
        assert with_scores.fallback is None


def test_kinds_without_thresholds_need_no_scores() -> None:
    policy = policy_of(kind("retention", 1))

    assert avoids_inference(point_of(policy), policy, ()) == "scores_unused"
    assert decided(policy, None).fallback is None
    assert decided(policy, None).kind == "retention"


def test_the_holdout_gets_nothing_and_says_so() -> None:
    policy = policy_of(kind("coupon", 1), explore_pct=100)

    decision, ledger = decide(point_of(policy, holdout=True), LIKELY, None, policy, (), DIGESTS)

    assert (decision.kind, decision.reason, decision.arm) == (None, "holdout", "holdout")
    assert (decision.action_set, decision.propensity) == (((NOTHING, 1.0),), 1.0)
    assert ledger == ()


def test_the_holdout_has_about_its_share_and_does_not_move_with_the_policy() -> None:
    small = policy_of(holdout_pct=5, holdout_salt="s")
    large = policy_of(kind("coupon", 1), holdout_pct=20, holdout_salt="s")
    other = policy_of(holdout_pct=20, holdout_salt="t")
    users = [f"user-{n}" for n in range(20_000)]

    held = {user for user in users if in_holdout(small, user)}
    more = {user for user in users if in_holdout(large, user)}
    moved = {user for user in users if in_holdout(other, user)}

    assert 900 < len(held) < 1_100
    assert 3_800 < len(more) < 4_200
    assert held < more
    assert 600 < len(more & moved) < 1_000


def test_without_scores_only_the_kinds_that_may_are_sent() -> None:
    policy = policy_of(
        kind("coupon", 2, scores=FEW_BUY),
        kind("reminder", 1, scores=FEW_BUY, without_scores=True),
    )

    decision, _ = decide(point_of(policy), None, "predictor_timeout", policy, (), DIGESTS)

    assert (decision.kind, decision.reason) == ("reminder", "sent")
    assert decision.fallback == "predictor_timeout"
    assert decision.suppressed == (("coupon", "needs_scores"),)
    assert dict(decision.action_set) == {NOTHING: 0.0, "reminder/o0": 1.0}


def test_without_scores_nothing_is_sent_when_every_kind_needs_them() -> None:
    policy = policy_of(kind("coupon", 1, scores=FEW_BUY), explore_pct=50)

    decision, _ = decide(point_of(policy), None, None, policy, (), DIGESTS)

    assert (decision.reason, decision.fallback) == ("suppressed_needs_scores", "no_scores")
    assert decision.action_set == ((NOTHING, 1.0),)


@pytest.mark.parametrize("draw_offer", [True, False])
def test_choices_come_as_often_as_their_propensity_says(draw_offer: bool) -> None:
    policy = policy_of(
        kind("coupon", 2, offers=3, draw_offer=draw_offer, scores=FEW_BUY),
        kind("reminder", 1, offers=2),
        explore_pct=30,
    )
    decisions = [
        decide(point_of(policy, f"e{n}"), UNLIKELY, None, policy, (), DIGESTS)[0]
        for n in range(20_000)
    ]

    chosen = Counter(f"{d.kind}/{d.offer}" if d.kind else NOTHING for d in decisions)
    expected = dict(decisions[0].action_set)
    coupon = 0.1 / 3 + (0.7 / 3 if draw_offer else 0.7)
    assert expected == pytest.approx(
        {
            NOTHING: 0.1,
            "coupon/o0": coupon,
            "coupon/o1": coupon if draw_offer else 0.1 / 3,
            "coupon/o2": coupon if draw_offer else 0.1 / 3,
            "reminder/o0": 0.05,
            "reminder/o1": 0.05,
        }
    )
    for name, probability in expected.items():
        sigma = (probability * (1 - probability) / len(decisions)) ** 0.5
        assert abs(chosen[name] / len(decisions) - probability) < 4 * sigma, name
    explored = sum(d.reason == "explored" for d in decisions) / len(decisions)
    assert abs(explored - 0.3) < 0.015


def test_exploration_may_send_what_its_thresholds_forbid_but_not_what_a_cap_does() -> None:
    policy = policy_of(
        kind("coupon", 2, scores=FEW_BUY),
        kind("reminder", 1, caps=(Cap(1, HOUR_MS),)),
        explore_pct=100,
    )
    ledger = (Sent("reminder", NOW_MS - 1),)

    kinds = {
        decide(point_of(policy, f"e{n}"), LIKELY, None, policy, ledger, DIGESTS)[0].kind
        for n in range(100)
    }

    assert kinds == {None, "coupon"}


# -- for any policy


bands = st.builds(Band, st.none() | st.floats(0, 0.5), st.none() | st.floats(0.5, 1))
caps = st.builds(Cap, st.integers(1, 3), st.integers(1, 10_000))
thresholds = st.dictionaries(st.sampled_from(["purchase", "next.search"]), bands)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True))
    kinds = [
        kind(
            name,
            priority,
            offers=draw(st.integers(1, 3)),
            scores=tuple(
                draw(st.dictionaries(st.sampled_from(["purchase", "next.search"]), bands)).items()
            ),
            without_scores=draw(st.booleans()),
            draw_offer=draw(st.booleans()),
            caps=tuple(draw(st.lists(caps, max_size=2))),
            cool_down_ms=draw(st.integers(0, 5_000)),
        )
        for priority, name in enumerate(names)
    ]
    return policy_of(
        *kinds,
        explore_pct=draw(st.floats(0, 100)),
        caps=tuple(draw(st.lists(caps, max_size=2))),
        cool_down_ms=draw(st.integers(0, 2_000)),
    )


scores_given = st.none() | st.floats(0, 1).map(lambda p: replace(LIKELY, purchase=p))
ledgers = st.lists(
    st.builds(Sent, st.sampled_from(KINDS), st.integers(NOW_MS - 12_000, NOW_MS)), max_size=6
).map(lambda sent: tuple(sorted(sent, key=lambda each: each.at_ms)))


@given(policies(), scores_given, ledgers, st.text(max_size=4), st.booleans())
def test_every_decision_is_complete_and_comes_out_the_same_again(
    policy: Policy, scores: Scores | None, ledger: Ledger, event_id: str, holdout: bool
) -> None:
    point = point_of(policy, event_id, holdout=holdout)

    decision, after = decide(point, scores, "predictor_timeout", policy, ledger, DIGESTS)

    assert (decision, after) == decide(point, scores, "predictor_timeout", policy, ledger, DIGESTS)
    chances = dict(decision.action_set)
    assert len(chances) == len(decision.action_set)
    assert sum(chances.values()) == pytest.approx(1.0)
    assert all(0.0 <= p <= 1.0 for p in chances.values())
    choice = f"{decision.kind}/{decision.offer}" if decision.kind else NOTHING
    assert decision.propensity == chances[choice] > 0.0
    assert decision.reason in REASONS
    assert {why for _, why in decision.suppressed} <= SUPPRESSIONS
    assert (decision.intervention is not None) == (decision.kind is not None)
    held_back = {name for name, _ in decision.suppressed}
    allowed = {name.partition("/")[0] for name in chances} - {NOTHING}
    assert allowed == (set() if holdout else set(point.kinds) - held_back)


@given(policies(), ledgers, ledgers)
def test_what_avoids_inference_still_does_when_more_was_sent(
    policy: Policy, ledger: Ledger, more: Ledger
) -> None:
    point = point_of(policy)
    before = avoids_inference(point, policy, ledger)

    if before is not None:
        assert before in AVOIDED
        assert avoids_inference(point, policy, ledger + more) is not None


@given(policies(), scores_given, ledgers)
def test_scores_change_nothing_where_inference_is_avoided(
    policy: Policy, scores: Scores | None, ledger: Ledger
) -> None:
    point = point_of(policy)
    if avoids_inference(point, policy, ledger) is not None:
        assert decide(point, scores, None, policy, ledger, DIGESTS) == decide(
            point, None, "no_model", policy, ledger, DIGESTS
        )


@given(policies(), st.lists(st.integers(0, 4_000), max_size=30), scores_given)
def test_no_cap_is_ever_exceeded_and_every_cool_down_is_kept(
    policy: Policy, gaps_ms: list[int], scores: Scores | None
) -> None:
    ledger: Ledger = ()
    sent: list[Sent] = []
    now_ms = NOW_MS
    for n, gap_ms in enumerate(gaps_ms):
        now_ms += gap_ms
        point = point_of(policy, f"e{n}", now_ms)
        decision, ledger = decide(point, scores, None, policy, ledger, DIGESTS)
        if decision.kind is not None:
            sent.append(Sent(decision.kind, now_ms))

    assert_limits_kept(sent, policy.caps, policy.cool_down_ms)
    for each in policy.kinds:
        own = [one for one in sent if one.kind == each.name]
        assert_limits_kept(own, each.caps, each.cool_down_ms)


def assert_limits_kept(sent: list[Sent], limits: tuple[Cap, ...], cool_down_ms: int) -> None:
    for most, per_ms in limits:
        for one in sent:
            inside = [o for o in sent if one.at_ms <= o.at_ms < one.at_ms + per_ms]
            assert len(inside) <= most
    if cool_down_ms:
        assert all(b.at_ms - a.at_ms >= cool_down_ms for a, b in pairwise(sent))


@given(policies(), st.lists(st.integers(0, 4_000), max_size=30))
def test_forgetting_what_is_too_old_changes_no_decision(policy: Policy, gaps_ms: list[int]) -> None:
    pruned: Ledger = ()
    whole: Ledger = ()
    now_ms = NOW_MS
    longest_ms = max(policy.horizon_ms, *(each.horizon_ms for each in policy.kinds))
    for n, gap_ms in enumerate(gaps_ms):
        now_ms += gap_ms
        point = point_of(policy, f"e{n}", now_ms)
        decision, pruned = decide(point, UNLIKELY, None, policy, pruned, DIGESTS)
        again, _ = decide(point, UNLIKELY, None, policy, whole, DIGESTS)
        if decision.kind is not None:
            whole += (Sent(decision.kind, now_ms),)
            assert all(each.at_ms > now_ms - longest_ms for each in pruned)
        assert replace(again, ledger=()) == replace(decision, ledger=())
