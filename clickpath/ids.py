"""Ids and random draws that are derived from their cause, never drawn.

A decision that is made again after a crash therefore has the id, and the luck, that it had the
first time. All of them are BLAKE2b (RFC 7693) of the parts, each preceded by its length, so that
no two lists of parts share a message.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

_MASK_63 = (1 << 63) - 1

#: Copying a digest that has its settings is quicker than making one; this runs for every event.
_NEW_EVENT_DIGEST = blake2b(digest_size=8, person=b"event").copy


def _digest(purpose: bytes, parts: tuple[str, ...], size_bytes: int) -> bytes:
    message = b"".join(
        len(raw).to_bytes(4, "big") + raw for raw in (p.encode("utf-8") for p in parts)
    )
    return blake2b(message, digest_size=size_bytes, person=purpose).digest()


def decision_id(user_id: str, event_id: str) -> str:
    """The id of what is decided because of one event: 32 hexadecimal digits.

    An intervention has the id of its decision. It depends on the cause alone, not on the model,
    the policy or the outcome: one cause can never have two ids.
    """
    return _digest(b"decision", (user_id, event_id), 16).hex()


def derived_event_id(*parts: str) -> str:
    """The id of an event that came without one: 32 hexadecimal digits of what makes it itself.

    The same parts are the same event, however often and wherever it is read.
    """
    return _digest(b"event-id", parts, 16).hex()


def draw(purpose: str, *parts: str) -> float:
    """A number in [0, 1), uniform over its arguments and always the same for the same ones."""
    bits = int.from_bytes(_digest(b"draw", (purpose, *parts), 7), "big")
    return (bits >> 3) / (1 << 53)  # 53 bits are exact in a float, so that 1.0 cannot come out


def event_hash(event_id: str) -> int:
    """63 bits that stand for an event id in the window's memory."""
    digest = _NEW_EVENT_DIGEST()
    digest.update(event_id.encode("utf-8"))
    return int.from_bytes(digest.digest(), "big") & _MASK_63


@lru_cache(maxsize=1 << 16)
def token_hash(text: str) -> int:
    """63 bits that stand for an item or a category; never 0, which is "none"."""
    raw = blake2b(text.encode("utf-8"), digest_size=8, person=b"token").digest()
    return (int.from_bytes(raw, "big") & _MASK_63) or 1
