"""A step: what a path keeps of one event."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack, unpack
from typing import Any, Final, NamedTuple

from clickpath.events import MAX_CENTS, Click
from clickpath.ids import event_hash, token_hash
from clickpath.vocabulary import ACTION_ID

UNKNOWN_PRICE: Final = -1

CART_ACTIONS: Final = frozenset({ACTION_ID["add_to_cart"], ACTION_ID["remove_from_cart"]})


class Line(NamedTuple):
    """One product in a cart."""

    item_id: str
    quantity: int
    price_cents: int


class Step(NamedTuple):
    """What the path keeps of one event.

    Attributes:
        ts_ms: Event time.
        event: 63-bit hash of the event id.
        action: Action id, from 1.
        item: 63-bit hash of the first item; 0 when there is none.
        category: 63-bit hash of its category; 0 when there is none.
        price_cents: Price of one piece of it; `UNKNOWN_PRICE` when not sent.
        value_cents: Worth of the whole event; 0 when neither sent nor derivable. At most
            `events.MAX_CENTS`, so that a lifetime of them stays within 64 bits.
        lines: What it puts into or takes out of the cart; empty for all other actions.
    """

    ts_ms: int
    event: int
    action: int
    item: int
    category: int
    price_cents: int
    value_cents: int
    lines: tuple[Line, ...]


#: How many bytes an event hash has.
HASH_BYTES: Final = 8

_NUMBERS: Final = Struct(">qB4q")

#: How many bytes of `pack_numbers` a step has.
NUMBERS_BYTES: Final = _NUMBERS.size


def pack_hashes(steps: Sequence[Sequence[Any]]) -> bytes:
    """The bytes of steps' event hashes; a step may also be its fields in a list.

    Raises:
        struct.error: One is no number of 64 bits.
    """
    return pack(f">{len(steps)}Q", *[step[1] for step in steps])


def unpack_hashes(hashes: bytes) -> tuple[int, ...]:
    """The event hashes in bytes of `pack_hashes`.

    Raises:
        struct.error: They are none of whole hashes.
    """
    return unpack(f">{len(hashes) // HASH_BYTES}Q", hashes)


def pack_numbers(step: Sequence[Any]) -> bytes:
    """The bytes of a step's other numbers: all but its event hash and its cart lines.

    Raises:
        struct.error: One is no integer, or too large.
    """
    return _NUMBERS.pack(step[0], *step[2:7])


def unpack_steps(hashes: bytes, numbers: bytes) -> list[Step]:
    """Steps without cart lines, of their event hashes and other numbers.

    Raises:
        struct.error: The bytes are none of whole steps.
        ValueError: They are of more steps on one side than on the other.
    """
    pairs = zip(unpack_hashes(hashes), _NUMBERS.iter_unpack(numbers), strict=True)
    return [
        tuple.__new__(Step, (ts_ms, event, action, item, category, price_cents, value_cents, ()))
        for event, (ts_ms, action, item, category, price_cents, value_cents) in pairs
    ]


#: What the window needs to know of a click, for the hot path: user id, event id, and the step.
#: A plain tuple, because those are unpacked several times faster than named ones.
Arrival = tuple[str, str, Step]


def arrival_of(click: Click) -> Arrival:
    """The light form of a click."""
    return click.user_id, click.event_id, step_of(click)


def step_of(click: Click) -> Step:
    """What a path keeps of a click."""
    action = ACTION_ID[click.action]
    items = click.items
    value = click.value_cents
    if value is None:
        value = 0
        for item in items:
            if item.price_cents is not None:
                value += item.quantity * item.price_cents
        value = min(value, MAX_CENTS)
    lines: tuple[Line, ...] = ()
    if action in CART_ACTIONS:
        lines = tuple(
            Line(i.item_id, i.quantity, UNKNOWN_PRICE if i.price_cents is None else i.price_cents)
            for i in items
        )
    if not items:
        return Step(
            click.ts_ms, event_hash(click.event_id), action, 0, 0, UNKNOWN_PRICE, value, lines
        )
    first = items[0]
    return Step(
        click.ts_ms,
        event_hash(click.event_id),
        action,
        token_hash(first.item_id),
        token_hash(first.category) if first.category else 0,
        UNKNOWN_PRICE if first.price_cents is None else first.price_cents,
        value,
        lines,
    )
