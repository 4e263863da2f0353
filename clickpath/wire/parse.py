"""One record of the clicks topic, in any of the known forms, to a click.

The content type header decides between JSON and msgpack; without one, or with one that says
nothing, the first byte does. Which form a JSON object has is told by its fields:

    ts_ms, event_id, or both type and user_id        Clickpath's own (canonical.py)
    specversion                                      CloudEvents, structured (cloudevents.py)
    messageId, userId, anonymousId, type "track" ..  Segment (segment.py)
    events, event_name, client_id ..                 Google Analytics 4 (ga4.py)

msgpack carries Clickpath's own form only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from clickpath.errors import BadEvent
from clickpath.events import Click
from clickpath.steps import Arrival, arrival_of
from clickpath.wire import canonical, cloudevents, ga4, segment
from clickpath.wire.envelope import NO_ENVELOPE, Envelope
from clickpath.wire.payload import read_json, read_msgpack, shown
from clickpath.wire.personal import screened

MAX_EVENT_BYTES: Final = 1 << 20
DAY_MS: Final = 24 * 3_600_000

#: Headers as Kafka clients hand them out. A name may come more than once: the last one counts.
Headers = Mapping[str, bytes | None] | Sequence[tuple[str, bytes | None]]

_JSON_TYPES: Final = frozenset({"application/json", "text/json"})
_MSGPACK_TYPES: Final = frozenset(
    {"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"}
)
_SILENT_TYPES: Final = frozenset({"", "application/octet-stream", "text/plain"})
#: Types under which an object is read as JSON.
_PLAIN: Final = _JSON_TYPES | _SILENT_TYPES
_CONTENT_TYPE: Final = "content-type"
_STRUCTURED: Final = "application/cloudevents"

#: First bytes of a msgpack map: fixmap, map 16, map 32. None of them can begin a JSON text.
_MAP_BYTES: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_OPENING_BRACE: Final = 0x7B


def parse(
    raw: bytes | None,
    headers: Headers,
    now_ms: int,
    max_future_ms: int = DAY_MS,
    dropped: Counter[str] | None = None,
) -> Click:
    """The click of one record, without what looks like personal data (`personal.screened`).

    Args:
        raw: The payload.
        headers: The record's headers; names in any case.
        now_ms: The present, epoch milliseconds; bounds the event time together with the next.
        max_future_ms: How far ahead of `now_ms` an event may be, inclusive.
        dropped: Counts fields that were left out, by kind of personal data.

    Raises:
        BadEvent: With one of `errors.BAD_EVENT_CODES`; nothing else, whatever the bytes are.
    """
    if not raw:
        raise BadEvent("empty", "the record has no payload")
    if len(raw) > MAX_EVENT_BYTES:
        raise BadEvent("too_large", f"{len(raw)} bytes, at most {MAX_EVENT_BYTES}")
    click = _read(raw, _by_name(headers) if headers else {})
    return _checked(click, now_ms, max_future_ms, dropped)


def parse_arrival(
    raw: bytes | None,
    headers: Headers,
    now_ms: int,
    max_future_ms: int = DAY_MS,
    dropped: Counter[str] | None = None,
) -> Arrival:
    """`arrival_of(parse(...))`, at half the price for plain events in Clickpath's own JSON.

    Raises:
        BadEvent: Just as `parse`.
    """
    if not raw or raw[0] != _OPENING_BRACE or len(raw) > MAX_EVENT_BYTES or not _plain(headers):
        return arrival_of(parse(raw, headers, now_ms, max_future_ms, dropped))
    record = read_json(raw)
    arrival = canonical.read_plain(record)
    if arrival is None:
        return arrival_of(_checked(_read_record(record, None), now_ms, max_future_ms, dropped))
    ts_ms = arrival[2].ts_ms
    if ts_ms > now_ms + max_future_ms:
        raise _future(ts_ms, now_ms)
    return arrival


def _checked(click: Click, now_ms: int, max_future_ms: int, dropped: Counter[str] | None) -> Click:
    if click.ts_ms > now_ms + max_future_ms:
        raise _future(click.ts_ms, now_ms)
    return screened(click, dropped)


def _future(ts_ms: int, now_ms: int) -> BadEvent:
    ahead_s = (ts_ms - now_ms) // 1000
    return BadEvent("future_timestamp", f"{ts_ms} is {ahead_s} s ahead", "ts_ms")


def _plain(headers: Headers) -> bool:
    """Whether headers leave an object what its bytes look like: JSON, and in no envelope."""
    if not headers:
        return True
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        lower = name.lower()
        if lower.startswith(cloudevents.PREFIXES):
            return False
        if lower == _CONTENT_TYPE and _media_type((value or b"").decode("latin-1")) not in _PLAIN:
            return False
    return True


def _by_name(headers: Headers) -> dict[str, bytes]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {name.lower(): value for name, value in pairs if value is not None}


def _read(raw: bytes, headers: dict[str, bytes]) -> Click:
    content_type = _media_type(headers.get(_CONTENT_TYPE, b"").decode("latin-1"))
    if content_type.startswith(_STRUCTURED):
        if content_type != f"{_STRUCTURED}+json":
            raise BadEvent("unknown_content_type", shown(content_type), _CONTENT_TYPE)
        return _read_structured(read_json(raw))
    return _read_body(raw, content_type, cloudevents.envelope_of_headers(headers))


def _media_type(content_type: str) -> str:
    """The type without its parameters, in lower case (RFC 9110, section 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def _read_body(raw: bytes, content_type: str, envelope: Envelope | None) -> Click:
    """The click of bytes whose content type is known; inside a CloudEvent with its envelope."""
    if content_type in _MSGPACK_TYPES or content_type.endswith("+msgpack"):
        return _read_map(read_msgpack(raw), envelope)
    if content_type in _SILENT_TYPES:
        if raw[0] in _MAP_BYTES:
            return _read_map(read_msgpack(raw), envelope)
    elif content_type not in _JSON_TYPES and not content_type.endswith("+json"):
        raise BadEvent("unknown_content_type", shown(content_type), _CONTENT_TYPE)
    return _read_record(read_json(raw), envelope)


def _read_map(record: Any, envelope: Envelope | None) -> Click:
    if type(record) is not dict:
        raise BadEvent("not_an_event", f"{shown(record)} is no map")
    if not canonical.fits(record):
        raise BadEvent("not_an_event", f"no event has the fields {_some_keys(record)}")
    return canonical.read(record, envelope or NO_ENVELOPE)


def _read_record(record: Any, envelope: Envelope | None) -> Click:
    """The click of a JSON value; `envelope` is None outside of any CloudEvent."""
    if type(record) is not dict:
        raise BadEvent("not_an_event", f"{shown(record)} is no map")
    if canonical.fits(record):
        return canonical.read(record, envelope or NO_ENVELOPE)
    if cloudevents.fits(record):
        if envelope is not None:
            raise BadEvent("not_an_event", "a CloudEvent inside a CloudEvent", "data")
        return _read_structured(record)
    if segment.fits(record):
        return segment.read(record, envelope or NO_ENVELOPE)
    if ga4.fits(record):
        return ga4.read(record, envelope or NO_ENVELOPE)
    raise BadEvent("not_an_event", f"no event has the fields {_some_keys(record)}")


def _read_structured(record: Any) -> Click:
    if type(record) is not dict:
        raise BadEvent("not_an_event", f"{shown(record)} is no map")
    content = cloudevents.unwrap(record)
    if content.raw is None:
        return _read_record(content.value, content.envelope)
    if not content.raw:
        raise BadEvent("empty", "the CloudEvent holds no data", "data")
    return _read_body(content.raw, _media_type(content.content_type), content.envelope)


def _some_keys(record: dict[Any, Any]) -> str:
    return shown(", ".join(sorted(str(key) for key in record)[:8]))
