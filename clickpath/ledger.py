"""What a user has been sent: the memory behind caps and cool-downs."""

from __future__ import annotations

from typing import NamedTuple


class Sent(NamedTuple):
    """One intervention that left.

    Attributes:
        kind: The kind of the intervention.
        at_ms: Event time of its cause.
    """

    kind: str
    at_ms: int


#: Oldest first. Kept apart from the path, since it depends on the order of arrival.
Ledger = tuple[Sent, ...]

EMPTY_LEDGER: Ledger = ()
