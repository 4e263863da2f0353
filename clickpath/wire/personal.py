"""Texts that look like personal data: e-mail addresses, phone numbers, numbers of cards.

A shop's ids, names and categories hold none of them, unless somebody put one there by mistake: a
search term as a category, an address as an event's id. What looks like one is left out of what
leaves here, and counted by kind.

    email   something@domain.tld, also with %40 for the @
    phone   + and 8 to 15 digits, also with separators; or a national number with separators: an
            area code that begins with 0, or 3-3-4 digits as in North America
    card    14 to 16, or 19, digits, also in groups, that begin as cards do and pass Luhn's check

A run of digits alone is no phone number: articles, orders and users are numbered so. Numbers count
only when they stand for themselves: digits inside a word or a UUID do not.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from clickpath.errors import BadEvent
from clickpath.events import Click, Item
from clickpath.vocabulary import OTHER

EMAIL: Final = "email"
PHONE: Final = "phone"
CARD: Final = "card"

#: A quick look: it matches nearly all ids, and nothing of which `kind_of` says more. Nothing above
#: can be in one word with a letter, or in a short one.
plain: Final = re.compile(r"[0-9_-]*+[A-Za-z][0-9A-Za-z_-]*+|[0-9_]{0,13}|[0-9_-]{0,9}").fullmatch

_EMAIL: Final = re.compile(r"(?<=[\w.+'-])(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}")
_CARD: Final = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){13,18}(?![\w-])", re.ASCII)
_PHONE: Final = re.compile(
    r"(?<!\w)(?:\+|%2[Bb])(?:[ ./()-]{0,2}\d){8,15}(?![\w-])"
    r"|(?<![\w.+-])\(?0\d{2,4}\)?[ /-]{1,2}\d{3,4}[ -]?\d{3,5}(?![\w-])"
    r"|(?<![\w.+-])\(?[2-9]\d{2}\)?[ .-]{1,2}[2-9]\d{2}[ .-]\d{4}(?![\w-])",
    re.ASCII,
)

#: In bytes of any kind a number need not stand for itself: its length may be before it.
_DIGITS: Final = re.compile(r"\d(?:[ -]?\d){13,63}", re.ASCII)
_BASE64: Final = re.compile(rb'"data_base64"\s*:\s*"([^"]*)')
_MOST_READ_BYTES: Final = 64 << 10

#: How the numbers of cards begin that are in use, by their number of digits.
_ISSUERS: Final = {
    14: re.compile(r"30[0-5]|3[68]"),
    15: re.compile(r"3[47]"),
    16: re.compile(r"4|5[0-5]|2[2-7]|35|6011|6[0245]"),
    19: re.compile(r"4|6[0245]"),
}

_ESCAPED: Final = re.compile(r"\\u00([0-9a-fA-F]{2})")


def kind_of(text: str) -> str | None:
    """Which kind of personal data a text holds, or looks as if it held; None for nothing."""
    if plain(text) is not None:
        return None
    if _EMAIL.search(text):
        return EMAIL
    if any(_is_card(_digits(found[0])) for found in _CARD.finditer(text)):
        return CARD
    if _PHONE.search(text):
        return PHONE
    return None


def _digits(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _is_card(digits: str) -> bool:
    issuer = _ISSUERS.get(len(digits))
    if issuer is None or issuer.match(digits) is None:
        return False
    doubled = (sum(divmod(2 * int(each), 10)) for each in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def may_hold(parts: Iterable[bytes | None]) -> bool:
    """Whether bytes of any kind may hold personal data: text, JSON, msgpack, or neither.

    Escapes of JSON and the base64 of a CloudEvent are undone, and the zeros between the letters of
    UTF-16 are passed over. What is too long to be looked through may hold anything.
    """
    return any(_may_hold(each) for part in parts if part for each in (part, *_decoded(part)))


def _decoded(part: bytes) -> Iterator[bytes]:
    for found in _BASE64.finditer(part):
        with suppress(ValueError):
            yield b64decode(found[1])


def _may_hold(part: bytes) -> bool:
    if len(part) > _MOST_READ_BYTES:
        return True
    text = part.replace(b"\0", b"").decode("utf-8", "replace")
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return kind_of(text) is not None or any(
        _is_card(digits[begin : begin + size])
        for digits in map(_digits, _DIGITS.findall(text))
        for begin in range(len(digits) - min(_ISSUERS) + 1)
        for size in _ISSUERS
    )


def screened(click: Click, dropped: Counter[str] | None = None) -> Click:
    """The click without what looks like personal data; the user's id is not looked at.

    A category is taken for unknown, a product without its id is left out, and the name of the event
    becomes `other`.

    Args:
        click: The click.
        dropped: Counts what was left out, by kind.

    Raises:
        BadEvent: `personal_data`, if it is the event's id, which cannot be left out.
    """
    if kind := kind_of(click.event_id):
        _count(dropped, kind)
        raise refusal(kind, "event_id")
    name, items = click.type_name, click.items
    if kind := kind_of(name):
        _count(dropped, kind)
        name = OTHER
    if any(kind_of(item.item_id) or (item.category and kind_of(item.category)) for item in items):
        items = tuple(kept for item in items if (kept := _item(item, dropped)) is not None)
    if name is click.type_name and items is click.items:
        return click
    return Click(
        event_id=click.event_id,
        user_id=click.user_id,
        ts_ms=click.ts_ms,
        action=click.action if name is click.type_name else OTHER,
        type_name=name,
        items=items,
        value_cents=click.value_cents,
    )


def refusal(kind: str, field: str) -> BadEvent:
    """What is said of an id that looks like personal data, without saying the id."""
    what = {EMAIL: "an e-mail address", PHONE: "a phone number", CARD: "the number of a card"}
    return BadEvent("personal_data", f"looks like {what[kind]}", field)


def _item(item: Item, dropped: Counter[str] | None) -> Item | None:
    if kind := kind_of(item.item_id):
        _count(dropped, kind)
        return None
    if item.category and (kind := kind_of(item.category)):
        _count(dropped, kind)
        return Item(item.item_id, None, item.price_cents, item.quantity)
    return item


def _count(dropped: Counter[str] | None, kind: str) -> None:
    if dropped is not None:
        dropped[kind] += 1
