"""Makes a recorded decision again, and says what differs."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from clickpath.decision import Decision, decide, decision_point
from clickpath.encoding import Encoder
from clickpath.ids import event_hash
from clickpath.policy import Policy
from clickpath.scores import Scores
from clickpath.vocabulary import ACTIONS
from clickpath.window import Window

#: How far scores may lie apart that two machines gave for one path.
SCORE_TOLERANCE: Final = 1e-4

#: Inputs of a decision, in its record.
_GIVEN: Final = frozenset({"digests", "path", "ledger", "scores"})


def rerun(
    decision: Decision, policy: Policy, window: Window, scores: Scores | None = None
) -> tuple[str, ...]:
    """Decides again on the recorded path, ledger and scores.

    Args:
        decision: The record.
        policy: The policy in use; that it is not the recorded one is a difference of its own.
        window: The window in use, likewise.
        scores: What the model says about the recorded path today. They are compared with the
            recorded ones within `SCORE_TOLERANCE`; the decision is made on the recorded ones.

    Returns:
        One line for each difference; none when the decision comes out equal.
    """
    differences = [
        _line(what, recorded, today)
        for what, recorded, today in (
            ("policy", decision.digests.policy, policy.digest),
            ("encoder", decision.digests.encoder, Encoder(window).fingerprint),
        )
        if recorded != today
    ]
    if scores is not None:
        differences += _score_differences(decision.scores, scores)
    steps = decision.path.steps
    if not steps or steps[-1].event != event_hash(decision.event_id):
        return (*differences, "path: recorded one does not end with the event of the decision")
    point = decision_point(
        policy, decision.user_id, decision.event_id, decision.path, decision.now_ms
    )
    if point is None:
        return (*differences, _line("eligible", decision.eligible, ()))
    again, _ = decide(
        point, decision.scores, decision.fallback, policy, decision.ledger, decision.digests
    )
    for field in fields(Decision):
        recorded, today = getattr(decision, field.name), getattr(again, field.name)
        if field.name == "scores" and recorded is not None and today is None:
            differences.append("scores: recorded, but of no use to this decision")
        elif field.name not in _GIVEN and recorded != today:
            differences.append(_line(field.name, recorded, today))
    return tuple(differences)


def _score_differences(recorded: Scores | None, today: Scores) -> list[str]:
    if recorded is None:
        return ["scores: none recorded"]
    names = ("purchase", *(f"next.{action}" for action in ACTIONS))
    pairs = zip(
        names,
        (recorded.purchase, *recorded.next_action[1:]),
        (today.purchase, *today.next_action[1:]),
        strict=True,
    )
    return [
        _line(f"scores.{name}", before, now)
        for name, before, now in pairs
        if abs(before - now) > SCORE_TOLERANCE
    ]


def _line(what: str, recorded: object, today: object) -> str:
    return f"{what}: recorded {recorded!r}, now {today!r}"
