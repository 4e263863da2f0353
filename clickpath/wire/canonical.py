"""Clickpath's own form of an event: a JSON object or a msgpack map.

    {"v": 1, "event_id": "e-1", "type": "add_to_cart", "user_id": "u-1", "ts_ms": 1760000000000,
     "items": [{"item_id": "sku-1", "category": "shoes", "price_cents": 4999, "quantity": 1}],
     "value_cents": 4999}

Required are `event_id`, `type`, `user_id` (texts) and `ts_ms` (an integer). `v` is the major
version, 1 when absent. In place of a list `items` an event about one product may carry `item_id`,
`category`, `price_cents` and `quantity` itself; where there are `items`, these are not looked at.
An optional field that is null counts as absent. Fields with other names are ignored: producers add
them. Nothing is converted: a number in a text is of the wrong type, and so are `true` and `1.0`.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from typing import Any, Final

import msgpack
from pydantic_core import to_json

from clickpath.errors import BadEvent
from clickpath.events import MAX_CENTS, MAX_ID_CHARS, MAX_QUANTITY, MAX_TS_MS, Click, Item
from clickpath.ids import event_hash, token_hash
from clickpath.steps import CART_ACTIONS, UNKNOWN_PRICE, Arrival, Line, Step
from clickpath.vocabulary import ACTION_ID, OTHER, SEGMENT_ACTIONS, canonical_action
from clickpath.wire.envelope import NO_ENVELOPE, Envelope
from clickpath.wire.payload import shown
from clickpath.wire.personal import kind_of, plain

VERSION: Final = 1

#: Action id by every event name that is known.
_ACTION_OF: Final = {
    name: ACTION_ID[canonical_action(name)] for name in (*SEGMENT_ACTIONS, *ACTION_ID)
}
_OTHER: Final = ACTION_ID[OTHER]

#: Makes a named tuple of a plain one in half the time that its class takes.
_new_tuple: Final = tuple.__new__

_SHORT_FORM: Final = frozenset({"item_id", "category", "price_cents", "quantity"})


def fits(record: dict[str, Any]) -> bool:
    """Whether a map looks like this form, be it complete or not."""
    return "ts_ms" in record or "event_id" in record or ("type" in record and "user_id" in record)


def read(record: dict[str, Any], envelope: Envelope = NO_ENVELOPE) -> Click:
    """The click of a map in this form.

    Raises:
        BadEvent: `unknown_version`, `missing_field`, `wrong_type`, `not_finite`, `negative_price`,
            `out_of_range` or `bad_timestamp`, with the place.
    """
    _check_version(record)
    event_id = record.get("event_id")
    name = _text(record, "type", "")
    return Click(
        event_id=_text(record, "event_id", "")
        if event_id is not None or envelope.event_id is None
        else envelope.event_id,
        user_id=_text(record, "user_id", ""),
        ts_ms=_time(record, envelope),
        action=canonical_action(name),
        type_name=name,
        items=_items(record),
        value_cents=_integer(record, "value_cents", "", MAX_CENTS),
    )


def read_plain(record: dict[str, Any]) -> Arrival | None:
    """The light form of a well-formed map about one product or none; None for any other.

    This runs for nearly every event, so it only asks whether all is well, and makes no `Click`.
    What it takes, `read` takes too, and reads alike; what is wrong with the rest `read` finds out.
    What looks like personal data it does not take: `personal.screened` is to see it.
    """
    try:
        event_id, user_id = record["event_id"], record["user_id"]
        name, ts_ms = record["type"], record["ts_ms"]
    except KeyError:
        return None
    get = record.get
    value_cents, version, product = get("value_cents"), get("v"), get("items")
    if product is None:
        product = record
    elif type(product) is list and len(product) == 1 and type(product[0]) is dict:
        product = product[0]
    else:
        return None
    item_id, category = product.get("item_id"), product.get("category")
    price_cents, quantity = product.get("price_cents"), product.get("quantity", 1)
    if not (
        type(event_id) is str
        and 0 < len(event_id) <= MAX_ID_CHARS
        and type(user_id) is str
        and 0 < len(user_id) <= MAX_ID_CHARS
        and (plain(event_id) is not None or kind_of(event_id) is None)
        and type(name) is str
        and 0 < len(name) <= MAX_ID_CHARS
        and type(ts_ms) is int
        and 0 <= ts_ms <= MAX_TS_MS
        and (value_cents is None or (type(value_cents) is int and 0 <= value_cents <= MAX_CENTS))
        and (version is None or (type(version) is int and version == VERSION))
        and (category is None or (type(category) is str and len(category) <= MAX_ID_CHARS))
        and (price_cents is None or (type(price_cents) is int and 0 <= price_cents <= MAX_CENTS))
        and type(quantity) is int
        and 0 <= quantity <= MAX_QUANTITY
    ):
        return None
    action = _ACTION_OF.get(name)
    if action is None:
        if kind_of(name):
            return None
        action = _OTHER
    if type(item_id) is str and 0 < len(item_id) <= MAX_ID_CHARS:
        item, kind = _token(item_id), _token(category) if category else 0
        if item < 0 or kind < 0:
            return None
        price = UNKNOWN_PRICE if price_cents is None else price_cents
        lines = (Line(item_id, quantity, price),) if action in CART_ACTIONS else ()
        if value_cents is None:
            value_cents = 0 if price_cents is None else min(quantity * price_cents, MAX_CENTS)
        values = (ts_ms, event_hash(event_id), action, item, kind, price, value_cents, lines)
    elif product is record and _SHORT_FORM.isdisjoint(record):
        worth = value_cents or 0
        values = (ts_ms, event_hash(event_id), action, 0, 0, UNKNOWN_PRICE, worth, ())
    else:
        return None
    return user_id, event_id, _new_tuple(Step, values)


@lru_cache(maxsize=1 << 16)
def _token(text: str) -> int:
    """`token_hash`, or a negative number for a text that looks like personal data."""
    return token_hash(text) if kind_of(text) is None else -1


def _check_version(record: dict[str, Any]) -> None:
    version = record.get("v")
    if version is None:
        return
    if type(version) is not int:
        raise BadEvent("wrong_type", f"{shown(version)} is no integer", "v")
    if version != VERSION:
        raise BadEvent("unknown_version", f"{shown(version)}, only {VERSION} is known", "v")


def _items(record: dict[str, Any]) -> tuple[Item, ...]:
    listed = record.get("items")
    if listed is None:
        one = [record.get(key) for key in ("item_id", "price_cents", "quantity")]
        if one == [None, None, None]:
            _optional_text(record, "category", "")
            return ()
        return (_read_item(record, ""),)
    if type(listed) is not list:
        raise BadEvent("wrong_type", f"{shown(listed)} is no list", "items")
    return tuple(_read_item(each, f"items[{n}]") for n, each in enumerate(listed))


def _read_item(record: Any, place: str) -> Item:
    if type(record) is not dict:
        raise BadEvent("wrong_type", f"{shown(record)} is no map", place)
    inside = f"{place}." if place else ""
    quantity = _integer(record, "quantity", inside, MAX_QUANTITY)
    return Item(
        item_id=_text(record, "item_id", inside),
        category=_optional_text(record, "category", inside),
        price_cents=_integer(record, "price_cents", inside, MAX_CENTS),
        quantity=1 if quantity is None else quantity,
    )


def _text(record: dict[str, Any], key: str, inside: str) -> str:
    value = _optional_text(record, key, inside)
    if not value:
        raise BadEvent("missing_field", "is absent" if value is None else "is empty", inside + key)
    return value


def _optional_text(record: dict[str, Any], key: str, inside: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if type(value) is not str:
        raise BadEvent("wrong_type", f"{shown(value)} is no text", inside + key)
    if len(value) > MAX_ID_CHARS:
        message = f"{shown(value)}, at most {MAX_ID_CHARS} characters"
        raise BadEvent("out_of_range", message, inside + key)
    return value


def _integer(record: dict[str, Any], key: str, inside: str, most: int) -> int | None:
    value = record.get(key)
    if value is None:
        return None
    if type(value) is not int:
        if isinstance(value, float) and not isfinite(value):
            raise BadEvent("not_finite", f"{value} is no amount", inside + key)
        raise BadEvent("wrong_type", f"{shown(value)} is no integer", inside + key)
    if value < 0:
        raise BadEvent("negative_price", f"{shown(value)} is below 0", inside + key)
    if value > most:
        raise BadEvent("out_of_range", f"{shown(value)} is over {most}", inside + key)
    return value


def _time(record: dict[str, Any], envelope: Envelope) -> int:
    value = record.get("ts_ms")
    if value is None:
        value = envelope.ts_ms
    if value is None:
        raise BadEvent("missing_field", "is absent", "ts_ms")
    if type(value) is not int or not 0 <= value <= MAX_TS_MS:
        raise BadEvent("bad_timestamp", f"{shown(value)} is no epoch millisecond", "ts_ms")
    return value


def click_to_json(click: Click) -> bytes:
    """The click as canonical JSON, in UTF-8, without line breaks; `parse` reads it back as is."""
    return to_json(_record(click))


def click_to_msgpack(click: Click) -> bytes:
    """The click as a canonical msgpack map; `parse` reads it back as is."""
    raw: bytes = msgpack.packb(_record(click))
    return raw


def _record(click: Click) -> dict[str, Any]:
    record: dict[str, Any] = {
        "event_id": click.event_id,
        "type": click.type_name,
        "user_id": click.user_id,
        "ts_ms": click.ts_ms,
    }
    if click.items:
        record["items"] = [_item_record(item) for item in click.items]
    if click.value_cents is not None:
        record["value_cents"] = click.value_cents
    return record


def _item_record(item: Item) -> dict[str, Any]:
    record: dict[str, Any] = {"item_id": item.item_id}
    if item.category is not None:
        record["category"] = item.category
    if item.price_cents is not None:
        record["price_cents"] = item.price_cents
    record["quantity"] = item.quantity
    return record
