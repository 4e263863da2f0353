"""JSON Schemas (draft 7) of what stands on the topics, for whoever writes or reads it.

They say what is there; a field that they do not name may come at any time. `closed` gives the
strict form, with which tests look for fields that nobody described.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from clickpath.decision import REASONS
from clickpath.errors import BAD_EVENT_CODES
from clickpath.events import MAX_CENTS, MAX_ID_CHARS, MAX_ITEMS, MAX_QUANTITY, MAX_TS_MS
from clickpath.policy import KINDS
from clickpath.suppression import SUPPRESSIONS
from clickpath.vocabulary import ACTIONS
from clickpath.wire.records import decision_schema
from stream.returned import LAST_OFFSET

Schema = dict[str, Any]

DRAFT: Final = "http://json-schema.org/draft-07/schema#"

_HEX_32: Final = "^[0-9a-f]{32}$"
_DIGEST: Final = "A digest of 16 hexadecimal digits, or a name where there is none."


def schemas() -> Mapping[str, Schema]:
    """Every schema by its name."""
    made: dict[str, Callable[[], Schema]] = {
        "click": _click,
        "intervention": _intervention,
        "decision": _decision,
        "dead-letter-headers": _dead_letter_headers,
        "late-headers": _late_headers,
        "decision-headers": _decision_headers,
        "intervention-headers": _intervention_headers,
        "click-headers": _click_headers,
    }
    return {name: {"$schema": DRAFT, **make()} for name, make in made.items()}


def schema_json(schema: Schema) -> str:
    """A schema as text."""
    return json.dumps(schema, indent=2) + "\n"


def closed(schema: Any) -> Any:
    """The schema in which an object has no field that is not named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    if "properties" in inner:
        inner.setdefault("additionalProperties", False)
    return inner


def _object(title: str, about: str, required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {
        "title": title,
        "description": about,
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
    }


def _text(about: str, **more: Any) -> Schema:
    return {"type": "string", "description": about, **more}


def _id(about: str) -> Schema:
    return _text(about, minLength=1, maxLength=MAX_ID_CHARS)


def _integer(about: str, most: int, *, null: bool = False) -> Schema:
    kind: object = ["integer", "null"] if null else "integer"
    return {"type": kind, "minimum": 0, "maximum": most, "description": about}


def _time(about: str) -> Schema:
    return _integer(f"{about} Epoch milliseconds.", MAX_TS_MS)


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _item_fields() -> dict[str, Schema]:
    return {
        "category": _or_null(_text("The shop's category.", maxLength=MAX_ID_CHARS)),
        "price_cents": _integer("Price of one piece, in hundredths.", MAX_CENTS, null=True),
        "quantity": _integer("Pieces; 1 when absent.", MAX_QUANTITY, null=True),
    }


def _click() -> Schema:
    item = _object(
        "Item",
        "One product in an event.",
        {"item_id": _id("The shop's id of the product.")},
        **_item_fields(),
    )
    return _object(
        "Click",
        "An event of one user, in Clickpath's own form, as JSON or as a msgpack map.",
        {
            "event_id": _id("The same id of the same user is the same event, and counts once."),
            "type": _text(
                "One of the examples, or Segment's name for it; any other is kept as `other`.",
                minLength=1,
                maxLength=MAX_ID_CHARS,
                examples=[name for name in ACTIONS if name != "other"],
            ),
            "user_id": _id("Whose path it belongs to; also the record's key."),
            "ts_ms": _time("When it happened."),
        },
        v={"type": ["integer", "null"], "enum": [1, None], "description": "1 when absent."},
        items={
            "type": ["array", "null"],
            "items": item,
            "maxItems": MAX_ITEMS,
            "description": "The products it is about, in the order shown.",
        },
        item_id=_or_null(_id("An event about one product may name it here, without `items`.")),
        **_item_fields(),
        value_cents=_integer("Worth of the whole event, in hundredths.", MAX_CENTS, null=True),
    )


def _intervention() -> Schema:
    return _object(
        "Intervention",
        "Something to do for one user, once for each intervention_id and before expires_ms.",
        {
            "v": {"type": "integer", "const": 1, "description": "Major version."},
            "intervention_id": _text("Derived from its cause; act once.", pattern=_HEX_32),
            "kind": _text("What to do.", enum=list(KINDS)),
            "offer": _text("Id of the offer in the policy."),
            "payload": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
                "description": "The offer's own fields.",
            },
            "user_id": _id("Whom it is for; also the record's key."),
            "cause": _object(
                "Cause",
                "The click because of which it is sent.",
                {"event_id": _id("Its id."), "ts_ms": _time("When it happened.")},
            ),
            "created_ms": _time("Event time of the cause."),
            "expires_ms": _integer(
                "Not to be acted on at or after this time. Epoch milliseconds.", 2 * MAX_TS_MS
            ),
            "items": {
                "type": "array",
                "description": "What is in the cart, where the kind attaches it.",
                "items": _object(
                    "Line",
                    "One product in the cart.",
                    {
                        "item_id": _id("The shop's id."),
                        "quantity": {"type": "integer", "description": "Pieces."},
                        "price_cents": _integer("Of one piece.", MAX_CENTS, null=True),
                    },
                ),
            },
            "model": _text(f"What scored it. {_DIGEST}"),
            "policy": _text(f"What decided it. {_DIGEST}"),
        },
    )


#: What the fields of a decision mean; `clickpath.wire.records` says how they are made.
_DECISION_FIELDS: Final = {
    "v": "Major version.",
    "decision_id": "Derived from user and event; also the id of its intervention.",
    "user_id": "Whose path; also the record's key.",
    "event_id": "The click that caused it.",
    "now_ms": "Event time of the cause. Epoch milliseconds.",
    "kind": "What is sent; null for nothing.",
    "offer": "Id of the offer; null for nothing.",
    "reason": "Why it is what it is.",
    "arm": "Whether the user is held out of all interventions.",
    "fallback": "Why scores that were needed are missing; null when they are not.",
    "eligible": "The eligible kinds, the greatest priority first.",
    "suppressed": "Kinds that were held back, and why.",
    "action_set": "Choices, `nothing` or `kind/offer`, and their probabilities; they sum to 1.",
    "propensity": "Probability of the choice that was made.",
    "scores": "What the model said; null when it was of no use or gave no answer.",
    "model": f"What scored it. {_DIGEST}",
    "policy": f"What decided it. {_DIGEST}",
    "encoder": "Digest of the encoder that made the model's input.",
    "intervention": "What left; null for nothing.",
    "state": "The path it was decided on, msgpack in base64. Not for consumers.",
    "ledger": "What the user had been sent: pairs of kind and event time.",
}


def _decision() -> Schema:
    schema: Schema = _as_draft_7(decision_schema())
    fields = schema["properties"]
    for name, about in _DECISION_FIELDS.items():
        fields[name] = {**fields[name], "description": about}
    fields["reason"]["enum"] = sorted(REASONS)
    fields["suppressed"]["additionalProperties"] = {"type": "string", "enum": sorted(SUPPRESSIONS)}
    return {
        "title": "Decision",
        "description": "One decision, also the one to do nothing, with all that made it.",
        **schema,
    }


def _as_draft_7(schema: Any) -> Any:
    """What pydantic writes (2020-12), in the older words that AsyncAPI and most tools know."""
    if isinstance(schema, list):
        return [_as_draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: Schema = {}
    for name, value in schema.items():
        if name == "title" and isinstance(value, str):
            continue
        if name == "additionalProperties" and value is False:
            continue
        if name == "$ref":
            made[name] = value.replace("#/$defs/_", "#/definitions/")
        elif name == "$defs":
            made["definitions"] = {key.lstrip("_"): _as_draft_7(v) for key, v in value.items()}
        elif name == "prefixItems":
            made["items"] = _as_draft_7(value)
        else:
            made[name] = _as_draft_7(value)
    return made


def _number_text(about: str) -> Schema:
    return _text(f"{about} A number in decimal digits.", pattern="^-?[0-9]+$")


def _origin() -> dict[str, Schema]:
    return {
        "clickpath-origin-topic": _text("Topic of the record that was refused."),
        "clickpath-origin-partition": _number_text("Its partition."),
        "clickpath-origin-offset": _number_text("Its offset."),
        "clickpath-origin-timestamp-ms": _number_text("Its timestamp, epoch milliseconds."),
    }


def _dead_letter_headers() -> Schema:
    return _object(
        "Headers of a dead letter",
        "They stand behind the record's own headers.",
        {
            "clickpath-reason": _text("Why, as a code.", enum=sorted(BAD_EVENT_CODES)),
            "clickpath-error": _text("Why, as a sentence with the place. May quote the event."),
            **_origin(),
        },
        **{
            **_missing(),
            LAST_OFFSET: _number_text("The last offset of a whole batch that cannot be read."),
        },
    )


def _late_headers() -> Schema:
    return _object(
        "Headers of a late event",
        "They stand behind the record's own headers.",
        {
            "clickpath-reason": _text("Always `late`.", const="late"),
            "clickpath-behind-ms": _number_text("How far behind the user's newest event."),
            **_origin(),
        },
        **_missing(),
    )


def _missing() -> dict[str, Schema]:
    return {
        "clickpath-cut-from-bytes": _number_text("Its size, if it was too large to be kept."),
        "clickpath-left-out": _text(
            "Why the record is not here, but only where the origin says. Absent if it is here."
        ),
    }


def _trace_headers() -> dict[str, Schema]:
    return {
        "traceparent": _text("W3C Trace Context.", pattern="^[0-9a-f]{2}-[0-9a-f]{32}-"),
        "tracestate": _text("W3C Trace Context."),
    }


def _decision_headers() -> Schema:
    return _object(
        "Headers of a decision",
        "Also of the tombstone that says that its user was erased.",
        {"clickpath-cause": _text("Partition and offset of the click.", pattern="^[0-9]+:[0-9]+$")},
    )


def _intervention_headers() -> Schema:
    return _object(
        "Headers of an intervention",
        "A trace is carried on where the worker traces.",
        {"clickpath-cause-timestamp-ms": _number_text("When the cause reached the broker.")},
        **_trace_headers(),
    )


def _click_headers() -> Schema:
    return _object(
        "Headers of a click",
        "None is required; those of CloudEvents in binary mode are known as well.",
        {},
        **{"content-type": _text("JSON and msgpack are told apart without it, too.")},
        **_trace_headers(),
    )
