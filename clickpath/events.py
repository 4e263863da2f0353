"""The click event, as every part of Clickpath sees it once it has been read and checked."""

from __future__ import annotations

from dataclasses import dataclass

from clickpath.errors import BadEvent
from clickpath.vocabulary import ACTION_ID

#: Longest identifier (event, user, item, category, type) in characters.
MAX_ID_CHARS = 256

#: Most items in one event, and largest count and amount of any field (one trillion cents).
MAX_ITEMS = 200
MAX_QUANTITY = 1_000_000
MAX_CENTS = 10**12


@dataclass(frozen=True, slots=True)
class Item:
    """One product in an event.

    Attributes:
        item_id: The shop's id of the product.
        category: The shop's category id or name; None when unknown.
        price_cents: Price of one piece in hundredths of the currency; None when unknown.
        quantity: Pieces, at least 0.
    """

    item_id: str
    category: str | None = None
    price_cents: int | None = None
    quantity: int = 1

    def __post_init__(self) -> None:
        # One question for the common case; what is wrong is found out below.
        if (
            0 < len(self.item_id) <= MAX_ID_CHARS
            and (self.category is None or len(self.category) <= MAX_ID_CHARS)
            and (self.price_cents is None or 0 <= self.price_cents <= MAX_CENTS)
            and 0 <= self.quantity <= MAX_QUANTITY
        ):
            return
        _check_id(self.item_id, "items.item_id")
        if self.category is not None and len(self.category) > MAX_ID_CHARS:
            raise BadEvent("out_of_range", _too_long(self.category), "items.category")
        _check_amount(self.price_cents, MAX_CENTS, "items.price_cents")
        _check_amount(self.quantity, MAX_QUANTITY, "items.quantity")


@dataclass(frozen=True, slots=True)
class Click:
    """One event of one user.

    Attributes:
        event_id: The producer's id of the event; the same id is the same event.
        user_id: Whose path it belongs to.
        ts_ms: Event time, epoch milliseconds.
        action: The canonical action, one of `vocabulary.ACTIONS`.
        type_name: The event's name as it was sent (differs from `action` for mapped names).
        items: The products it is about, in the order sent.
        value_cents: Worth of the whole event (an order's total); None when it was not sent.
    """

    event_id: str
    user_id: str
    ts_ms: int
    action: str
    type_name: str
    items: tuple[Item, ...] = ()
    value_cents: int | None = None

    def __post_init__(self) -> None:
        if (
            0 < len(self.event_id) <= MAX_ID_CHARS
            and 0 < len(self.user_id) <= MAX_ID_CHARS
            and 0 < len(self.type_name) <= MAX_ID_CHARS
            and self.action in ACTION_ID
            and 0 <= self.ts_ms <= MAX_TS_MS
            and len(self.items) <= MAX_ITEMS
            and (self.value_cents is None or 0 <= self.value_cents <= MAX_CENTS)
        ):
            return
        _check_id(self.event_id, "event_id")
        _check_id(self.user_id, "user_id")
        _check_id(self.type_name, "type")
        if self.action not in ACTION_ID:
            raise BadEvent("out_of_range", f"{self.action!r} is no action", "action")
        if not 0 <= self.ts_ms <= MAX_TS_MS:
            raise BadEvent("bad_timestamp", f"{self.ts_ms} is no epoch millisecond", "ts_ms")
        if len(self.items) > MAX_ITEMS:
            raise BadEvent("out_of_range", f"{len(self.items)} items, at most {MAX_ITEMS}", "items")
        _check_amount(self.value_cents, MAX_CENTS, "value_cents")


#: The end of the year 9999.
MAX_TS_MS = 253_402_300_799_999


def _check_id(text: str, field: str) -> None:
    if not text:
        raise BadEvent("missing_field", "is empty", field)
    if len(text) > MAX_ID_CHARS:
        raise BadEvent("out_of_range", _too_long(text), field)


def _too_long(text: str) -> str:
    return f"{text[:24]!r}... has {len(text)} characters, at most {MAX_ID_CHARS}"


def _check_amount(amount: int | None, most: int, field: str) -> None:
    if amount is None or 0 <= amount <= most:
        return
    code = "negative_price" if amount < 0 else "out_of_range"
    raise BadEvent(code, f"{amount} is not between 0 and {most}", field)
