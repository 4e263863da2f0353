"""Decisions and interventions as JSON: what stands on the topics that leave.

Decision, version 1. Everything that made it is in it, so that `clickpath.rerun` can make it again
from the record alone, and off-policy evaluation needs nothing else:

    v, decision_id, user_id, event_id, now_ms   who, because of what, when (event time)
    kind, offer                                 what is sent; null for nothing
    reason, arm, fallback                       one of `decision.REASONS`; holdout or treatment;
                                                why scores are missing, or null
    eligible, suppressed                        kinds by priority; kind -> why it was held back
    action_set, propensity                      choice -> probability; the one of the choice made
    scores                                      purchase, next_action by name; or null
    model, policy, encoder                      digests
    intervention                                payload, expires_ms, lines; or null
    state, ledger                               `dump_path` in base64; [kind, at_ms] each

Intervention, version 1: `v, intervention_id, kind, offer, payload, user_id, cause {event_id,
ts_ms}, created_ms, expires_ms, items, model, policy`. It has no scores: consumers act, they do not
judge. Its id is that of its decision; a consumer that remembers ids acts once.

Equal values have equal bytes. Text is escaped to ASCII.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clickpath.decision import Decision, Digests, Intervention
from clickpath.errors import StateError
from clickpath.ledger import Sent
from clickpath.scores import Scores
from clickpath.steps import UNKNOWN_PRICE, Line
from clickpath.vocabulary import ACTIONS
from clickpath.window import Window
from clickpath.wire.state import dump_path, load_path

#: A text as JSON, quotes included, escaped to ASCII.
_text: Final = json.encoder.encode_basestring_ascii
_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

#: Filled with the probabilities: purchase first, then of every action.
_SCORES: Final = (
    '{"purchase":%r,"next_action":{' + ",".join(f'"{action}":%r' for action in ACTIONS) + "}}"
)


def decision_to_json(decision: Decision) -> bytes:
    """The bytes of a decision, for the decisions topic."""
    # Put together by hand: this runs for every decision, and json.dumps takes three times as long.
    scores, digests, sent = decision.scores, decision.digests, decision.intervention
    said = _SCORES % (scores.purchase, *scores.next_action[1:]) if scores else "null"
    suppressed = ",".join([f"{_text(kind)}:{_text(why)}" for kind, why in decision.suppressed])
    action_set = ",".join([f"{_text(name)}:{p!r}" for name, p in decision.action_set])
    ledger = ",".join([f"[{_text(kind)},{at_ms}]" for kind, at_ms in decision.ledger])
    state = b2a_base64(dump_path(decision.path), newline=False).decode("ascii")
    return (
        f'{{"v":1,"decision_id":{_text(decision.decision_id)}'
        f',"user_id":{_text(decision.user_id)}'
        f',"event_id":{_text(decision.event_id)}'
        f',"now_ms":{decision.now_ms}'
        f',"kind":{_text(decision.kind) if decision.kind is not None else "null"}'
        f',"offer":{_text(decision.offer) if decision.offer is not None else "null"}'
        f',"reason":{_text(decision.reason)}'
        f',"arm":{_text(decision.arm)}'
        f',"fallback":{_text(decision.fallback) if decision.fallback is not None else "null"}'
        f',"eligible":[{",".join(map(_text, decision.eligible))}]'
        f',"suppressed":{{{suppressed}}}'
        f',"action_set":{{{action_set}}}'
        f',"propensity":{decision.propensity!r}'
        f',"scores":{said}'
        f',"model":{_text(digests.model)}'
        f',"policy":{_text(digests.policy)}'
        f',"encoder":{_text(digests.encoder)}'
        f',"intervention":{_sent(sent) if sent is not None else "null"}'
        f',"state":"{state}"'
        f',"ledger":[{ledger}]}}'
    ).encode("ascii")


def _sent(sent: Intervention) -> str:
    return _encode(
        {"payload": dict(sent.payload), "expires_ms": sent.expires_ms, "lines": sent.lines}
    )


def intervention_to_json(intervention: Intervention) -> bytes:
    """The bytes of an intervention, for the topic of its kind."""
    return _encode(
        {
            "v": 1,
            "intervention_id": intervention.intervention_id,
            "kind": intervention.kind,
            "offer": intervention.offer,
            "payload": dict(intervention.payload),
            "user_id": intervention.user_id,
            "cause": {"event_id": intervention.event_id, "ts_ms": intervention.created_ms},
            "created_ms": intervention.created_ms,
            "expires_ms": intervention.expires_ms,
            "items": _items(intervention.lines),
            "model": intervention.model,
            "policy": intervention.policy,
        }
    ).encode("ascii")


def _items(lines: Iterable[Line]) -> list[dict[str, str | int | None]]:
    return [
        {
            "item_id": line.item_id,
            "quantity": line.quantity,
            "price_cents": None if line.price_cents == UNKNOWN_PRICE else line.price_cents,
        }
        for line in lines
    ]


def decision_from_json(raw: bytes, window: Window) -> Decision:
    """The decision in the bytes.

    Args:
        raw: What `decision_to_json` gave.
        window: The window that kept the path.

    Raises:
        StateError: The bytes are no decision, or of a version from the future.
    """
    try:
        record = _DecisionRecord.model_validate_json(raw)
        state = b64decode(record.state, validate=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole of it"
        raise StateError(f"this is no decision record: {place}: {first['msg']}") from error
    except (Base64Error, ValueError) as error:
        raise StateError(f"the state in a decision record is no base64: {error}") from error
    return Decision(
        decision_id=record.decision_id,
        user_id=record.user_id,
        event_id=record.event_id,
        now_ms=record.now_ms,
        kind=record.kind,
        offer=record.offer,
        reason=record.reason,
        arm=record.arm,
        eligible=tuple(record.eligible),
        suppressed=tuple(record.suppressed.items()),
        action_set=tuple(record.action_set.items()),
        propensity=record.propensity,
        scores=_scores_of(record.scores) if record.scores else None,
        fallback=record.fallback,
        digests=Digests(record.model, record.policy, record.encoder),
        path=load_path(state, window),
        ledger=tuple(Sent(kind, at_ms) for kind, at_ms in record.ledger),
        intervention=_intervention_of(record),
    )


def decision_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a decision record; stricter than what a reader needs."""
    return _DecisionRecord.model_json_schema()


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _ScoresRecord(_Record):
    purchase: float = Field(ge=0.0, le=1.0)
    next_action: dict[Literal[ACTIONS], float]  # type: ignore[valid-type]


class _InterventionRecord(_Record):
    payload: dict[str, str | int | float | bool]
    expires_ms: int
    lines: list[tuple[str, int, int]]


class _DecisionRecord(_Record):
    v: Literal[1]
    decision_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    user_id: str
    event_id: str
    now_ms: int
    kind: str | None
    offer: str | None
    reason: str
    arm: Literal["holdout", "treatment"]
    fallback: str | None
    eligible: list[str]
    suppressed: dict[str, str]
    action_set: dict[str, float]
    propensity: float = Field(gt=0.0, le=1.0)
    scores: _ScoresRecord | None
    model: str
    policy: str
    encoder: str
    intervention: _InterventionRecord | None
    state: str
    ledger: list[tuple[str, int]]


def _scores_of(record: _ScoresRecord) -> Scores:
    # The vocabulary only ever grows at its end: what an older model did not know has no chance.
    known: dict[str, Any] = record.next_action
    return Scores((0.0, *(known.get(action, 0.0) for action in ACTIONS)), record.purchase)


def _intervention_of(record: _DecisionRecord) -> Intervention | None:
    sent = record.intervention
    if sent is None:
        return None
    if record.kind is None or record.offer is None:
        raise StateError("this is no decision record: an intervention without kind or offer")
    return Intervention(
        intervention_id=record.decision_id,
        kind=record.kind,
        offer=record.offer,
        payload=tuple(sent.payload.items()),
        user_id=record.user_id,
        event_id=record.event_id,
        created_ms=record.now_ms,
        expires_ms=sent.expires_ms,
        lines=tuple(Line(*line) for line in sent.lines),
        model=record.model,
        policy=record.policy,
    )
