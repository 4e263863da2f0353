"""What goes into a batch agent and what comes out of it: chunks of raw records, output records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class RawRecord(NamedTuple):
    """One record as it lies in the topic; nothing is decoded.

    Attributes:
        offset: Its offset in the partition.
        timestamp_ms: The time that the producer or the broker gave it, epoch milliseconds.
        key: The key's bytes.
        value: The value's bytes; None is a tombstone.
        headers: Names and values in the order of the record; a value may be None.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in ascending offsets, at least one, about a thousand at most.

    Offsets may leave gaps (compaction, transactions), and after a crash a chunk may repeat
    records that were processed before: a handler that must not apply a record twice keeps the
    last applied offset in its state.
    """

    topic: str
    partition: int
    records: Sequence[RawRecord]


class OutputRecord(NamedTuple):
    """One record to be written to `topic`, to the partition with the number of the source's.

    Attributes:
        topic: The topic's name.
        key: The key's bytes.
        value: The value's bytes; None is a tombstone and needs a key.
        headers: Names and values; a value may be None.
        timestamp_ms: Epoch milliseconds; None takes the producer's clock.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None
