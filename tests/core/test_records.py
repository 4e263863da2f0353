"""Decision and intervention records: read back as they were, made again, refused when strange."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickpath.decision import (
    Decision,
    Digests,
    avoids_inference,
    decide,
    decision_point,
)
from clickpath.encoding import Encoder
from clickpath.errors import StateError
from clickpath.events import Click, Item
from clickpath.ledger import Ledger, Sent
from clickpath.policy import KINDS
from clickpath.policy_file import default_policy
from clickpath.rerun import SCORE_TOLERANCE, rerun
from clickpath.scores import Scores
from clickpath.vocabulary import ACTION_COUNT, ACTIONS
from clickpath.window import EMPTY_PATH, Window, push
from clickpath.wire.records import decision_from_json, decision_to_json, intervention_to_json

WINDOW = Window()
POLICY = default_policy()
DIGESTS = Digests("0123456789abcdef", POLICY.digest, Encoder(WINDOW).fingerprint)
START_MS = 1_700_000_000_000
SCORES = Scores((0.0, 0.1, 1e-7, *[0.9 / (ACTION_COUNT - 3)] * (ACTION_COUNT - 3)), 0.2)

COUPON_PATH = (
    (0, "add_to_cart"),
    (1_000, "add_to_cart"),
    (200_000, "view_cart"),
)


def decision_after(
    events: tuple[tuple[int, str], ...],
    user_id: str = "ann",
    event_id: str = "e",
    ledger: Ledger = (),
    scores: Scores | None = SCORES,
) -> Decision:
    path = EMPTY_PATH
    for n, (after_ms, action) in enumerate(events):
        items = (Item(f"shoe {n} \u00e9", "shoes", None if n else 4_000, 2),)
        name = event_id if n == len(events) - 1 else f"an event before this one: {n}"
        click = Click(name, user_id, START_MS + after_ms, action, action, items)
        path, _ = push(path, click, WINDOW)
    point = decision_point(POLICY, user_id, event_id, path, path.tip.last_ms)
    assert point is not None
    return decide(point, scores, "predictor_timeout", POLICY, ledger, DIGESTS)[0]


def treated(user_id: str = "ann") -> str:
    """A user like this one who is in the treatment arm and is not explored upon."""
    for n in range(100):
        decision = decision_after(COUPON_PATH, f"{user_id}{n}")
        if decision.reason == "sent":
            return f"{user_id}{n}"
    raise AssertionError("everybody is in the holdout")


USER = treated()


def test_a_decision_says_everything_that_made_it() -> None:
    record = json.loads(decision_to_json(decision_after(COUPON_PATH, USER)))

    assert record["v"] == 1
    assert record["user_id"] == USER
    assert record["event_id"] == "e"
    assert record["now_ms"] == START_MS + 200_000
    assert (record["kind"], record["offer"]) == ("coupon", "five-percent")
    assert (record["reason"], record["arm"], record["fallback"]) == ("sent", "treatment", None)
    assert record["eligible"] == ["coupon"]
    assert record["suppressed"] == {}
    assert record["action_set"] == pytest.approx(
        {"nothing": 0.01, "coupon/five-percent": 0.985, "coupon/ten-percent": 0.005}
    )
    assert record["propensity"] == record["action_set"]["coupon/five-percent"]
    assert record["scores"]["purchase"] == 0.2
    assert list(record["scores"]["next_action"]) == list(ACTIONS)
    assert record["scores"]["next_action"]["search"] == 1e-7
    assert (record["model"], record["policy"]) == ("0123456789abcdef", POLICY.digest)
    assert record["intervention"]["payload"] == {"discount_pct": 5}
    assert record["ledger"] == []


def test_an_intervention_says_what_to_do_and_no_scores() -> None:
    decision = decision_after(COUPON_PATH, USER)
    assert decision.intervention is not None

    record = json.loads(intervention_to_json(decision.intervention))

    assert record == {
        "v": 1,
        "intervention_id": decision.decision_id,
        "kind": "coupon",
        "offer": "five-percent",
        "payload": {"discount_pct": 5},
        "user_id": USER,
        "cause": {"event_id": "e", "ts_ms": START_MS + 200_000},
        "created_ms": START_MS + 200_000,
        "expires_ms": START_MS + 200_000 + 7_200_000,
        "items": [
            {"item_id": "shoe 0 \u00e9", "quantity": 2, "price_cents": 4_000},
            {"item_id": "shoe 1 \u00e9", "quantity": 2, "price_cents": None},
        ],
        "model": "0123456789abcdef",
        "policy": POLICY.digest,
    }


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ledgers = st.lists(
    st.builds(Sent, st.sampled_from(KINDS), st.integers(START_MS - 10**9, START_MS)), max_size=4
).map(tuple)
scores_given = st.none() | st.lists(
    st.floats(0, 1), min_size=ACTION_COUNT, max_size=ACTION_COUNT
).map(lambda chances: Scores((0.0, *chances[1:]), chances[0]))


@given(texts, texts, ledgers, scores_given)
def test_a_decision_reads_as_it_was_written_and_comes_out_the_same_again(
    user_id: str, event_id: str, ledger: Ledger, scores: Scores | None
) -> None:
    decision = decision_after(COUPON_PATH, user_id, event_id, ledger, scores)
    raw = decision_to_json(decision)

    again = decision_from_json(raw, WINDOW)

    assert again == decision
    assert decision_to_json(again) == raw
    assert raw.isascii()
    assert b"\n" not in raw
    assert rerun(again, POLICY, WINDOW) == ()


def test_suppressed_and_held_out_decisions_read_as_they_were_written() -> None:
    now_ms = START_MS + 200_000
    suppressed = decision_after(COUPON_PATH, USER, ledger=(Sent("coupon", now_ms - 10**8),))
    users = (decision_after(COUPON_PATH, f"bob{n}") for n in range(1_000))
    held_out = next(decision for decision in users if decision.arm == "holdout")

    assert suppressed.reason == "suppressed_cap"
    for decision in (suppressed, held_out):
        assert decision_from_json(decision_to_json(decision), WINDOW) == decision


def changed(decision: Decision, **fields: Any) -> bytes:
    return json.dumps(json.loads(decision_to_json(decision)) | fields).encode()


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"v": 2}, "v"),
        ({"colour": "blue"}, "colour"),
        ({"now_ms": "1"}, "now_ms"),
        ({"now_ms": 1.5}, "now_ms"),
        ({"user_id": None}, "user_id"),
        ({"decision_id": "x"}, "decision_id"),
        ({"arm": "both"}, "arm"),
        ({"propensity": 0.0}, "propensity"),
        ({"action_set": [1]}, "action_set"),
        ({"scores": {"purchase": 2.0, "next_action": {}}}, "scores.purchase"),
        ({"scores": {"purchase": 0.5, "next_action": {"buy": 0.5}}}, "scores.next_action.buy"),
        ({"ledger": [["coupon"]]}, "ledger.0"),
        ({"kind": None}, "intervention without kind"),
        ({"state": "!"}, "no base64"),
        ({"state": b64encode(b"no state").decode()}, "path state"),
        ({"state": ""}, "path state"),
    ],
)
def test_a_record_of_another_form_is_refused_with_the_place(
    fields: dict[str, object], place: str
) -> None:
    raw = changed(decision_after(COUPON_PATH, USER), **fields)

    with pytest.raises(StateError, match=place):
        decision_from_json(raw, WINDOW)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"{}"])
def test_bytes_that_are_no_record_are_refused(raw: bytes) -> None:
    with pytest.raises(StateError, match="no decision record"):
        decision_from_json(raw, WINDOW)


def test_an_action_that_an_older_model_did_not_know_has_no_chance() -> None:
    decision = decision_after(COUPON_PATH, USER)
    raw = changed(decision, scores={"purchase": 0.2, "next_action": {"search": 0.5}})

    scores = decision_from_json(raw, WINDOW).scores

    assert scores is not None
    assert (scores.of("search"), scores.of("other")) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"kind": "support"}, "kind: recorded 'support', now 'coupon'"),
        ({"propensity": 0.5}, "propensity: recorded 0.5, now 0.98"),
        ({"policy": "f" * 16}, "policy: recorded 'ffffffffffffffff'"),
        ({"encoder": "f" * 16}, "encoder: recorded 'ffffffffffffffff'"),
        ({"reason": "explored"}, "reason: recorded 'explored', now 'sent'"),
        ({"eligible": ["coupon", "support"]}, "eligible: recorded"),
        ({"event_id": "f"}, "path: recorded one does not end with the event"),
        ({"decision_id": "0" * 32}, "decision_id: recorded"),
        ({"scores": None}, "fallback: recorded None, now 'no_scores'"),
        ({"now_ms": START_MS}, "eligible: recorded"),
    ],
)
def test_making_a_changed_decision_again_names_the_difference(
    fields: dict[str, object], difference: str
) -> None:
    raw = changed(decision_after(COUPON_PATH, USER), **fields)

    differences = rerun(decision_from_json(raw, WINDOW), POLICY, WINDOW)

    assert any(each.startswith(difference) for each in differences), differences


def test_scores_of_today_are_compared_with_a_tolerance() -> None:
    decision = decision_after(COUPON_PATH, USER)
    near = replace(SCORES, purchase=SCORES.purchase + SCORE_TOLERANCE / 2)
    far = replace(SCORES, purchase=SCORES.purchase + SCORE_TOLERANCE * 2)

    assert rerun(decision, POLICY, WINDOW, near) == ()
    [difference] = rerun(decision, POLICY, WINDOW, far)
    assert difference.startswith("scores.purchase: recorded 0.2")


def test_a_decision_of_another_window_says_so() -> None:
    decision = decision_after(COUPON_PATH, USER)

    [difference] = rerun(decision, POLICY, replace(WINDOW, session_gap_ms=1))

    assert difference.startswith("encoder: ")


def test_the_example_needs_the_model() -> None:
    decision = decision_after(COUPON_PATH, USER)
    point = decision_point(POLICY, USER, "e", decision.path, decision.now_ms)

    assert point is not None
    assert avoids_inference(point, POLICY, ()) is None
