"""CloudEvents 1.0 (CNCF) around any of the other forms, one level deep.

Structured mode: a JSON object with `specversion`, `id`, `source`, `type` and the event in `data`
(a map, or a text of type `datacontenttype`) or `data_base64`. Binary mode: the event is the
payload, its type stands in `content-type`, and the attributes stand in headers `ce_id` and so on
(Kafka's binding) or `ce-id` (HTTP's). Batches are not read: one record is one event.

The `id` becomes the event's id, and `time` its time, where the event itself has none.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from clickpath.errors import BadEvent
from clickpath.wire.envelope import Envelope
from clickpath.wire.fields import Record, iso_ms
from clickpath.wire.payload import shown

_REQUIRED: Final = ("id", "source", "type")
_MAJOR: Final = "1"

#: How the names of headers begin that say something of an event in binary mode, in lower case.
PREFIXES: Final = ("ce_", "ce-")


class Content(NamedTuple):
    """What a structured CloudEvent holds: a value, or bytes that are still to be read.

    Attributes:
        envelope: What the outer message knows.
        value: The data, when it was JSON in place.
        raw: The data as bytes otherwise, else None.
        content_type: The type of `raw`; empty when it was not said.
    """

    envelope: Envelope
    value: Any
    raw: bytes | None
    content_type: str


def fits(record: Record) -> bool:
    """Whether a map looks like a structured CloudEvent, be it complete or not."""
    return "specversion" in record


def unwrap(record: Record) -> Content:
    """What a structured CloudEvent holds.

    Raises:
        BadEvent: `unknown_version`, `missing_field`, `wrong_type`, `bad_timestamp` or `empty`.
    """
    envelope = _envelope(record, "")
    content_type = record.get("datacontenttype") or ""
    if type(content_type) is not str:
        raise BadEvent("wrong_type", f"{shown(content_type)} is no text", "datacontenttype")
    encoded = record.get("data_base64")
    if encoded is not None:
        return Content(envelope, None, _decoded(encoded), content_type)
    data = record.get("data")
    if data is None:
        raise BadEvent("empty", "the CloudEvent holds no data", "data")
    if type(data) is str:
        return Content(envelope, None, data.encode("utf-8"), content_type)
    return Content(envelope, data, None, "")


def envelope_of_headers(headers: Mapping[str, bytes]) -> Envelope | None:
    """What the headers of binary mode know; None when it is no CloudEvent in binary mode.

    Args:
        headers: By name in lower case.

    Raises:
        BadEvent: `not_utf8`, `unknown_version`, `missing_field` or `bad_timestamp`.
    """
    for prefix in PREFIXES:
        if prefix + "specversion" in headers:
            return _envelope(
                {
                    name.removeprefix(prefix): _header_text(name, value)
                    for name, value in headers.items()
                    if name.startswith(prefix)
                },
                prefix,
            )
    return None


def _header_text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadEvent("not_utf8", f"{shown(value)} is no UTF-8", name) from error


def _envelope(attributes: Record, prefix: str) -> Envelope:
    version = attributes.get("specversion")
    if type(version) is not str:
        code = "missing_field" if version is None else "wrong_type"
        raise BadEvent(code, f"{shown(version)} is no text", prefix + "specversion")
    if version.partition(".")[0] != _MAJOR:
        message = f"{shown(version)}, only {_MAJOR} is known"
        raise BadEvent("unknown_version", message, prefix + "specversion")
    for name in _REQUIRED:
        value = attributes.get(name)
        if value is None or value == "":
            raise BadEvent("missing_field", "is absent or empty", prefix + name)
        if type(value) is not str:
            raise BadEvent("wrong_type", f"{shown(value)} is no text", prefix + name)
    time = attributes.get("time")
    ts_ms = None if time is None else iso_ms(time, prefix + "time")
    return Envelope(attributes["id"], ts_ms)


def _decoded(encoded: Any) -> bytes:
    if type(encoded) is not str:
        raise BadEvent("wrong_type", f"{shown(encoded)} is no text", "data_base64")
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        raise BadEvent("wrong_type", f"no base64: {error}", "data_base64") from error
