"""Erasure: what asks for it on the clicks topic, and by which mark the erased are known.

A request lies among the clicks, once in each partition, so that it has its place in the order of
events: what lies before it is forgotten, what lies behind it begins a new path. It comes in two
steps. `erase` empties the user's state and leaves the stamp, so that a worker that crashed and
reads old events again still passes over them; `forget`, sent when that is committed, removes what
is left.

The mark is a hash of the id behind the edge. Where ids are no pseudonyms, whoever has the mark can
find the id by trying all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, cast

from clickpath.events import MAX_ID_CHARS
from clickpath.wire.parse import Headers

Step = Literal["erase", "forget"]

#: The header that makes a record a request; nobody outside can set one.
HEADER: Final = "clickpath-erase"


class Request(NamedTuple):
    """One step of an erasure.

    Attributes:
        step: Which one.
        user_id: Whose, as the edge gives it.
    """

    step: Step
    user_id: str


def mark_of(user_id: str) -> str:
    """The mark of a user: 32 hexadecimal digits."""
    return blake2b(user_id.encode("utf-8"), digest_size=16, person=b"erasure").hexdigest()


def request_to_record(request: Request) -> tuple[bytes, tuple[tuple[str, bytes | None], ...]]:
    """Value and headers of a request; no click is like it."""
    value = json.dumps({"erase": request.user_id}).encode("utf-8")
    return value, ((HEADER, request.step.encode()),)


def request_of(value: bytes | None, headers: Headers) -> Request | None:
    """The request in a record; None for any other record."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    step = dict(pairs).get(HEADER, b"")
    if step not in (b"erase", b"forget") or not value:
        return None
    try:
        content = json.loads(value)
        user_id = content.get("erase") if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(user_id, str) or not may_be_user(user_id):
        return None
    return Request(cast(Step, step.decode()), user_id)


def may_be_user(user_id: str) -> bool:
    """Whether a click can have this user id: not empty nor too long, and text in UTF-8."""
    # JSON can hold half of a surrogate pair, which no bytes stand for.
    return 0 < len(user_id) <= MAX_ID_CHARS and not any("\ud800" <= c <= "\udfff" for c in user_id)
