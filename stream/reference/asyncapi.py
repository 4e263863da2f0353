"""All topics as an AsyncAPI 3 document; the schemas lie in files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from clickpath import __version__
from clickpath.policy import KINDS
from stream.topics import Topics

_FORMAT: Final = "application/schema+json;version=draft-07"

#: Whole numbers among the settings of a topic.
_NUMBERS: Final = frozenset({"retention.ms", "max.message.bytes"})

_TOPICS: Final = Topics()

#: What lies on a topic that is not one of a kind of intervention: channel, title, messages, text.
_CHANNELS: Final[Mapping[str, tuple[str, str, tuple[str, ...], str]]] = {
    _TOPICS.clicks: (
        "clicks",
        "Clicks",
        ("click", "foreignClick"),
        "Click events, keyed by user id. Producers send; the worker reads.",
    ),
    _TOPICS.decisions: (
        "decisions",
        "Decisions",
        ("decision",),
        "Every decision, also the one to do nothing, keyed by user id.",
    ),
    _TOPICS.dead_letter: (
        "deadLetters",
        "Dead letters",
        ("deadLetter",),
        "Records that are no event, untouched, with the reason in their headers.",
    ),
    _TOPICS.late: (
        "late",
        "Late events",
        ("lateClick",),
        "Events behind the lateness bound, untouched.",
    ),
    _TOPICS.erasures: (
        "erasures",
        "Receipts of erasures",
        ("erasure",),
        "What was erased, by the mark of the user, compacted.",
    ),
    _TOPICS.changelog: (
        "changelog",
        "States",
        ("userState",),
        "The users' states, compacted; the worker's own, for nobody else to write or rely on.",
    ),
    _TOPICS.models: (
        "models",
        "Models",
        ("standing",),
        "Which model decides, compacted; written by `clickpath models` and by the workers.",
    ),
}

_INTERVENTIONS: Final = "interventions"


def described_topics() -> set[str]:
    """The topics that the document describes."""
    return {*_CHANNELS, *map(_TOPICS.of_kind, KINDS)}


def asyncapi_yaml() -> str:
    """The document, as text."""
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Clickpath",
            "version": __version__,
            "description": "Click events in, decisions and interventions out. Topic names are the"
            " defaults; settings may change them.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "The brokers that CLICKPATH_BOOTSTRAP_SERVERS names.",
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }
    note = "# Written by `make reference` from the code; edits here are lost.\n"
    return note + yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)


def _channels() -> dict[str, Any]:
    configs = _TOPICS.configs()
    channels = {
        name: _channel(address, title, messages, about, configs[address])
        for address, (name, title, messages, about) in _CHANNELS.items()
    }
    of_kind = _channel(
        f"{_TOPICS.interventions}.{{kind}}",
        "Interventions",
        ("intervention",),
        "What consumers act on, a topic for each kind, keyed by user id.",
        configs[_TOPICS.of_kind(KINDS[0])],
    )
    of_kind["parameters"] = {
        "kind": {"description": "The kind of intervention.", "enum": list(KINDS)}
    }
    return {**channels, _INTERVENTIONS: of_kind}


def _channel(
    address: str, title: str, messages: Iterable[str], about: str, config: Mapping[str, str]
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        name: int(value) if name in _NUMBERS else [value] for name, value in config.items()
    }
    return {
        "address": address,
        "title": title,
        "description": about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topicConfiguration": settings}},
    }


def _operations() -> dict[str, Any]:
    sent = [name for name, *_ in _CHANNELS.values() if name != "clicks"]
    names = {"readClicks": ("receive", "clicks")}
    for name in (*sent, _INTERVENTIONS):
        names[f"send{name[0].upper()}{name[1:]}"] = ("send", name)
    return {
        operation: {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": f"The worker {'reads' if action == 'receive' else 'writes'} them.",
        }
        for operation, (action, channel) in names.items()
    }


def _messages() -> dict[str, Any]:
    return {
        "click": _message(
            "Click", "click", "click-headers", "Clickpath's own form, JSON or msgpack."
        ),
        "foreignClick": {
            "title": "Click in another form",
            "summary": "A call of Segment, an event of Google Analytics 4, or a CloudEvent around"
            " any form; told by its fields and by the header content-type.",
            "headers": _schema("click-headers"),
            "payload": {"type": "object"},
            "bindings": _KEYED,
        },
        "decision": _message("Decision", "decision", "decision-headers", "With all that made it."),
        "intervention": {
            **_message(
                "Intervention",
                "intervention",
                "intervention-headers",
                "To be acted on once for each id, before it expires.",
            ),
            "correlationId": {
                "description": "The id by which repetitions are told.",
                "location": "$message.payload#/intervention_id",
            },
        },
        "deadLetter": {
            "title": "Dead letter",
            "summary": "The record as it came; any bytes.",
            "contentType": "application/octet-stream",
            "headers": _schema("dead-letter-headers"),
            "bindings": _KEYED,
        },
        "lateClick": {
            "title": "Late event",
            "summary": "The record as it came.",
            "headers": _schema("late-headers"),
            "payload": {"type": "object"},
            "bindings": _KEYED,
        },
        "erasure": {
            "title": "Receipt of an erasure",
            "summary": "What was erased of a user in one partition of the clicks, and up to where.",
            "payload": {"type": "object"},
            "bindings": {
                "kafka": {"key": {"type": "string", "description": "The mark of the user."}}
            },
        },
        "userState": {
            "title": "State of a user",
            "summary": "msgpack with a version of its own; a tombstone forgets the user.",
            "contentType": "application/msgpack",
            "bindings": _KEYED,
        },
        "standing": {
            "title": "Which model decides",
            "summary": "Under `active`; under `report/...` what a worker saw of a candidate.",
            "contentType": "application/json",
            "bindings": {"kafka": {"key": {"type": "string"}}},
        },
    }


_KEYED: Final = {"kafka": {"key": {"type": "string", "description": "The user's id, UTF-8."}}}


def _message(title: str, payload: str, headers: str | None, about: str) -> dict[str, Any]:
    message = {"title": title, "summary": about, "payload": _schema(payload), "bindings": _KEYED}
    return message if headers is None else {**message, "headers": _schema(headers)}


def _schema(name: str) -> dict[str, Any]:
    return {"schemaFormat": _FORMAT, "schema": {"$ref": f"./schemas/{name}.json"}}
