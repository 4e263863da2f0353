"""Who a user is behind the edge: a pseudonym, where there is a key, or the id as it came.

    pseudonym = "p1-" + base32(HMAC-SHA256(key, "clickpath pseudonym v1" + 00 + id), 16 bytes)

in lower case and without padding, 29 characters in all. Whoever has the key can make the pseudonym
of a person; nobody can make the person of a pseudonym. An id that has the form of a pseudonym is
one already, so that producers and workers may both be the edge. With another key all users are new
ones.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from clickpath.errors import ConfigError
from clickpath.events import Click
from clickpath.wire.personal import kind_of, refusal

#: From the id in an event to the id that everything behind the edge knows.
Edge = Callable[[str], str]

LEAST_KEY_BYTES: Final = 16

_DOMAIN: Final = b"clickpath pseudonym v1\0"
_PREFIX: Final = "p1-"
_PSEUDONYM: Final = re.compile(r"p1-[a-z2-7]{26}")
_SIZE_BYTES: Final = 16
_REMEMBERED: Final = 1 << 16


def pseudonyms(key: bytes) -> Edge:
    """An edge that makes pseudonyms; it remembers the last ones it made.

    Raises:
        ConfigError: The key is too short to be one.
    """
    if len(key) < LEAST_KEY_BYTES:
        raise ConfigError(
            f"a key of {len(key)} bytes is too short to keep ids secret; at least {LEAST_KEY_BYTES}"
        )

    @lru_cache(_REMEMBERED)
    def pseudonym(user_id: str) -> str:
        if _PSEUDONYM.fullmatch(user_id):
            return user_id
        digest = hmac.digest(key, _DOMAIN + user_id.encode("utf-8"), "sha256")[:_SIZE_BYTES]
        return _PREFIX + b32encode(digest).decode("ascii").rstrip("=").lower()

    return pseudonym


@lru_cache(_REMEMBERED)
def open_edge(user_id: str) -> str:
    """The edge without a key: ids stay, and those that look like personal data are refused.

    Raises:
        BadEvent: `personal_data`.
    """
    if kind := kind_of(user_id):
        raise refusal(kind, "user_id")
    return user_id


def behind(edge: Edge, click: Click) -> Click:
    """The click as it is behind an edge.

    Raises:
        BadEvent: `personal_data`, where there is no key.
    """
    user_id = edge(click.user_id)
    return click if user_id == click.user_id else replace(click, user_id=user_id)


def is_pseudonym(user_id: str) -> bool:
    """Whether an id has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(user_id) is not None
