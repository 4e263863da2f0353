"""Typed access to the maps of foreign formats, with the place of every mistake.

Foreign trackers are read more leniently than Clickpath's own form: an id may be an integer, and an
amount may be written as a text. A key that is absent, null or an empty text gives None.

Money: amounts are decimal numbers of the currency. A JSON number is taken as the shortest decimal
that stands for it, so that `19.99` is 1999 cents exactly; what is finer than a cent is rounded to
the nearest one, halves away from zero.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from math import isfinite
from typing import Any, Final

from clickpath.errors import BadEvent
from clickpath.events import MAX_CENTS, MAX_QUANTITY, MAX_TS_MS
from clickpath.wire.payload import shown

Record = dict[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MOST_ISO_CHARS: Final = 64
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_UP)
_HUNDRED: Final = Decimal(100)
_MAX_AMOUNT: Final = Decimal(MAX_CENTS) / _HUNDRED


def text(record: Record, key: str, place: str = "") -> str | None:
    """A text, or an integer as a text.

    Raises:
        BadEvent: `wrong_type`.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    if type(value) is int and value.bit_length() <= 64:
        return str(value)
    if type(value) is not str:
        raise BadEvent("wrong_type", f"{shown(value)} is no text", place + key)
    return value


def first_text(record: Record, keys: tuple[str, ...], place: str = "") -> str:
    """The first of several texts that is there.

    Raises:
        BadEvent: `missing_field` when none is, or `wrong_type`.
    """
    for key in keys:
        if value := text(record, key, place):
            return value
    raise BadEvent("missing_field", f"none of {', '.join(keys)} is there", place + keys[0])


def cents(record: Record, key: str, place: str = "") -> int | None:
    """An amount of money, in hundredths.

    Raises:
        BadEvent: `wrong_type`, `not_finite`, `negative_price` or `out_of_range`.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    amount = _decimal(value, place + key)
    if amount < 0:
        raise BadEvent("negative_price", f"{shown(value)} is below 0", place + key)
    if amount > _MAX_AMOUNT:
        raise BadEvent("out_of_range", f"{shown(value)} is over {_MAX_AMOUNT}", place + key)
    return int(_EXACT.multiply(amount, _HUNDRED).to_integral_value(context=_EXACT))


def _decimal(value: Any, place: str) -> Decimal:
    if type(value) is float:
        if not isfinite(value):
            raise BadEvent("not_finite", f"{value} is no amount", place)
        return Decimal(repr(value))
    if type(value) is int:
        return Decimal(value)
    if type(value) is str and _DECIMAL.fullmatch(value):
        return Decimal(value)
    raise BadEvent("wrong_type", f"{shown(value)} is no amount", place)


def count(record: Record, key: str, place: str = "") -> int | None:
    """A number of pieces.

    Raises:
        BadEvent: `wrong_type`, `not_finite`, `negative_price` or `out_of_range`.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    amount = _decimal(value, place + key)
    if amount < 0:
        raise BadEvent("negative_price", f"{shown(value)} is below 0", place + key)
    if amount > MAX_QUANTITY:
        raise BadEvent("out_of_range", f"{shown(value)} is over {MAX_QUANTITY}", place + key)
    if amount != int(amount):
        raise BadEvent("wrong_type", f"{shown(value)} is no whole number", place + key)
    return int(amount)


def integer(value: Any) -> int | None:
    """An integer, also one written as a text of at most 18 digits; None for anything else."""
    if type(value) is int:
        return value
    if type(value) is str and _INTEGER.fullmatch(value):
        return int(value)
    return None


def iso_ms(value: Any, place: str) -> int:
    """Epoch milliseconds of an ISO 8601 time; one without an offset is in UTC.

    Raises:
        BadEvent: `bad_timestamp`.
    """
    if type(value) is not str or len(value) > _MOST_ISO_CHARS:
        raise BadEvent("bad_timestamp", f"{shown(value)} is no ISO 8601 time", place)
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise BadEvent("bad_timestamp", f"{shown(value)} is no ISO 8601 time", place) from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return checked_ms((time - _EPOCH) // _MILLISECOND, value, place)


def checked_ms(ts_ms: int, value: Any, place: str) -> int:
    """A time in milliseconds that lies in the years from 1970 to 9999.

    Raises:
        BadEvent: `bad_timestamp`.
    """
    if not 0 <= ts_ms <= MAX_TS_MS:
        raise BadEvent("bad_timestamp", f"{shown(value)} is not in 1970 to 9999", place)
    return ts_ms


def record_of(record: Record, key: str, place: str = "") -> Record:
    """A map, empty when it is absent.

    Raises:
        BadEvent: `wrong_type`.
    """
    value = record.get(key)
    if value is None:
        return {}
    return as_record(value, place + key)


def as_record(value: Any, place: str) -> Record:
    """The value, which must be a map.

    Raises:
        BadEvent: `wrong_type`.
    """
    if type(value) is not dict:
        raise BadEvent("wrong_type", f"{shown(value)} is no map", place)
    return value


def list_of(record: Record, key: str, place: str = "") -> list[Any]:
    """A list, empty when it is absent.

    Raises:
        BadEvent: `wrong_type`.
    """
    value = record.get(key)
    if value is None:
        return []
    if type(value) is not list:
        raise BadEvent("wrong_type", f"{shown(value)} is no list", place + key)
    return value
