"""What caused a decision: the place of a click on its topic, in a header of the decision's record.

A user's decisions are made in the order of the clicks, so that places only rise: a decision whose
cause is not behind that of the one before was repeated by a crash. The tombstone of an erasure has
the place of the request, and so its own in that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

HEADER: Final = "clickpath-cause"


class Cause(NamedTuple):
    """A place on the topic of clicks."""

    partition: int
    offset: int


def cause_header(partition: int, offset: int) -> tuple[str, bytes]:
    """The header of a record that a click, or a request, in this place has caused."""
    return HEADER, b"%d:%d" % (partition, offset)


def cause_of(headers: Iterable[tuple[str, bytes | None]]) -> Cause | None:
    """The cause that headers tell; None if they tell none, as those of an older worker."""
    for name, value in headers:
        if name == HEADER and value is not None:
            partition, colon, offset = value.partition(b":")
            if colon and partition.isdigit() and offset.isdigit():
                return Cause(int(partition), int(offset))
    return None
