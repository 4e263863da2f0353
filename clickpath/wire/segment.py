"""Segment's calls, after its spec and its e-commerce spec v2, as JSON.

`track` is the event that it names; `page` and `screen` are a page view; `identify`, `group` and
`alias` say nothing about the path, and are kept as `other` under the name of the call.

    event_id     messageId; else derived from user, time, name and properties
    user_id      userId, else anonymousId
    ts_ms        timestamp, else originalTimestamp (ISO 8601)
    items        properties.products, else the properties themselves if they name a product
    value_cents  properties.total, else value, else revenue

Of a product are read: product_id (else sku), category, price, quantity.
"""

from __future__ import annotations

import json
from typing import Final

from clickpath.errors import BadEvent
from clickpath.events import Click, Item
from clickpath.ids import derived_event_id
from clickpath.vocabulary import canonical_action
from clickpath.wire.envelope import Envelope
from clickpath.wire.fields import (
    Record,
    as_record,
    cents,
    count,
    first_text,
    iso_ms,
    list_of,
    record_of,
    text,
)
from clickpath.wire.payload import shown

_CALLS: Final = ("track", "page", "screen", "identify", "group", "alias")
_MARKS: Final = frozenset({"messageId", "userId", "anonymousId", "originalTimestamp", "batch"})
_ITEM_IDS: Final = ("product_id", "sku")
_TIMES: Final = ("timestamp", "originalTimestamp")
_VALUES: Final = ("total", "value", "revenue")


def fits(record: Record) -> bool:
    """Whether a map looks like one of these calls, be it complete or not."""
    return not _MARKS.isdisjoint(record) or record.get("type") in _CALLS


def read(record: Record, envelope: Envelope) -> Click:
    """The click of a call.

    Raises:
        BadEvent: With the place in the call.
    """
    if "batch" in record:
        raise BadEvent("not_an_event", "a batch of calls; one record is one event", "batch")
    call = first_text(record, ("type",))
    if call not in _CALLS:
        raise BadEvent("not_an_event", f"{shown(call)} is no call of Segment's", "type")
    name = first_text(record, ("event",)) if call == "track" else call
    user_id = first_text(record, ("userId", "anonymousId"))
    ts_ms = _time(record, envelope)
    properties = record_of(record, "properties")
    event_id = text(record, "messageId") or envelope.event_id
    if event_id is None:
        content = json.dumps(properties, sort_keys=True)
        event_id = derived_event_id("segment", user_id, str(ts_ms), name, content)
    return Click(
        event_id=event_id,
        user_id=user_id,
        ts_ms=ts_ms,
        action=canonical_action(name),
        type_name=name,
        items=_items(properties),
        value_cents=_value(properties),
    )


def _time(record: Record, envelope: Envelope) -> int:
    for key in _TIMES:
        if record.get(key) is not None:
            return iso_ms(record[key], key)
    if envelope.ts_ms is not None:
        return envelope.ts_ms
    raise BadEvent("missing_field", f"none of {', '.join(_TIMES)} is there", "timestamp")


def _items(properties: Record) -> tuple[Item, ...]:
    if properties.get("products") is None:
        if all(properties.get(key) is None for key in _ITEM_IDS):
            return ()
        return (_item(properties, "properties."),)
    return tuple(
        _item(as_record(each, f"properties.products[{n}]"), f"properties.products[{n}].")
        for n, each in enumerate(list_of(properties, "products", "properties."))
    )


def _item(product: Record, place: str) -> Item:
    quantity = count(product, "quantity", place)
    return Item(
        item_id=first_text(product, _ITEM_IDS, place),
        category=text(product, "category", place),
        price_cents=cents(product, "price", place),
        quantity=1 if quantity is None else quantity,
    )


def _value(properties: Record) -> int | None:
    for key in _VALUES:
        value = cents(properties, key, "properties.")
        if value is not None:
            return value
    return None
