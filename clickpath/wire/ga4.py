"""Google Analytics 4 e-commerce events as JSON, in the two shapes in which they travel.

Measurement Protocol body: `{client_id, user_id, timestamp_micros, events: [{name, params}]}`. One
record is one click, so a body with more than one event is refused. An event's own
`timestamp_micros` goes before the body's.

Row of the BigQuery export: `{event_name, event_timestamp, user_id, user_pseudo_id, items,
event_params: [{key, value: {string_value, int_value, float_value, double_value}}], ecommerce}`.

    event_id     derived from user, time in microseconds, name, parameters and items: GA4 has none
    user_id      user_id, else client_id, app_instance_id or user_pseudo_id
    items        items: item_id (else item_name), item_category, price, quantity
    value_cents  value, else ecommerce.purchase_revenue of a row
"""

from __future__ import annotations

import json
from typing import Any, Final

from clickpath.errors import BadEvent
from clickpath.events import Click, Item
from clickpath.ids import derived_event_id
from clickpath.vocabulary import canonical_action
from clickpath.wire.envelope import Envelope
from clickpath.wire.fields import (
    Record,
    as_record,
    cents,
    checked_ms,
    count,
    first_text,
    integer,
    list_of,
    record_of,
    text,
)
from clickpath.wire.payload import shown

_MARKS: Final = frozenset(
    {"events", "event_name", "client_id", "app_instance_id", "user_pseudo_id", "timestamp_micros"}
)
_USERS: Final = ("user_id", "client_id", "app_instance_id", "user_pseudo_id")
_ITEM_IDS: Final = ("item_id", "item_name")
_NOT_SET: Final = "(not set)"


def fits(record: Record) -> bool:
    """Whether a map looks like one of the two shapes, be it complete or not."""
    return not _MARKS.isdisjoint(record)


def read(record: Record, envelope: Envelope) -> Click:
    """The click of a body with one event, or of a row.

    Raises:
        BadEvent: With the place in the body or row.
    """
    if "event_name" in record:
        return _read_row(record, envelope)
    events = list_of(record, "events")
    if len(events) != 1:
        raise BadEvent("not_an_event", f"{len(events)} events; one record is one event", "events")
    event = as_record(events[0], "events[0]")
    name = first_text(event, ("name",), "events[0].")
    params = record_of(event, "params", "events[0].")
    place = "events[0].params."
    if event.get("timestamp_micros") is not None:
        ts_us = _time_us(event, "timestamp_micros", "events[0].", envelope)
    else:
        ts_us = _time_us(record, "timestamp_micros", "", envelope)
    return _click(
        user_id=first_text(record, _USERS),
        ts_us=ts_us,
        name=name,
        items=_items(params, place),
        value_cents=cents(params, "value", place),
        content=params,
        envelope=envelope,
    )


def _read_row(row: Record, envelope: Envelope) -> Click:
    params = list_of(row, "event_params")
    value_cents = _row_value(params)
    if value_cents is None:
        ecommerce = record_of(row, "ecommerce")
        value_cents = cents(ecommerce, "purchase_revenue", "ecommerce.")
    return _click(
        user_id=first_text(row, _USERS),
        ts_us=_time_us(row, "event_timestamp", "", envelope),
        name=first_text(row, ("event_name",)),
        items=_items(row, ""),
        value_cents=value_cents,
        content=[params, row.get("items")],
        envelope=envelope,
    )


def _row_value(params: list[Any]) -> int | None:
    for n, each in enumerate(params):
        place = f"event_params[{n}]"
        param = as_record(each, place)
        if param.get("key") == "value":
            typed = record_of(param, "value", f"{place}.")
            for key in ("double_value", "float_value", "int_value", "string_value"):
                amount = cents(typed, key, f"{place}.value.")
                if amount is not None:
                    return amount
    return None


def _time_us(record: Record, key: str, place: str, envelope: Envelope) -> int:
    value = record.get(key)
    if value is None:
        if envelope.ts_ms is None:
            raise BadEvent("missing_field", "is absent", place + key)
        return envelope.ts_ms * 1000
    ts_us = integer(value)
    if ts_us is None:
        raise BadEvent("bad_timestamp", f"{shown(value)} is no epoch microsecond", place + key)
    checked_ms(ts_us // 1000, value, place + key)
    return ts_us


def _items(record: Record, place: str) -> tuple[Item, ...]:
    return tuple(
        _item(as_record(each, f"{place}items[{n}]"), f"{place}items[{n}].")
        for n, each in enumerate(list_of(record, "items", place))
    )


def _item(item: Record, place: str) -> Item:
    quantity = count(item, "quantity", place)
    set_fields = {key: value for key, value in item.items() if value != _NOT_SET}
    return Item(
        item_id=first_text(set_fields, _ITEM_IDS, place),
        category=text(set_fields, "item_category", place),
        price_cents=cents(item, "price", place),
        quantity=1 if quantity is None else quantity,
    )


def _click(
    *,
    user_id: str,
    ts_us: int,
    name: str,
    items: tuple[Item, ...],
    value_cents: int | None,
    content: Any,
    envelope: Envelope,
) -> Click:
    event_id = envelope.event_id
    if event_id is None:
        text_of_content = json.dumps(content, sort_keys=True)
        event_id = derived_event_id("ga4", user_id, str(ts_us), name, text_of_content)
    return Click(
        event_id=event_id,
        user_id=user_id,
        ts_ms=ts_us // 1000,
        action=canonical_action(name),
        type_name=name,
        items=items,
        value_cents=value_cents,
    )
