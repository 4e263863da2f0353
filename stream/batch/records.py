"""What goes into a batch agent and what comes out of it: chunks of raw records, output records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from clickpath.errors import BadEvent


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


class Unreadable(RawRecord):
    """Stands for what the client cannot read: one record, or a whole batch of them.

    As a record it has no key, no value and no headers: whoever asks nothing finds no event in it.

    Attributes:
        content: What there is of it: the record with names of headers escaped, or the bytes of the
            batch as its value.
        error: Why it cannot be read.
        last_offset: The last offset that it stands for; the first one is its own.
        whole_batch: Whether it stands for a batch.
        opaque: Whether the bytes of the batch are compressed, so that nobody knows what is in them.
    """

    content: RawRecord
    error: BadEvent
    last_offset: int
    whole_batch: bool
    opaque: bool

    @classmethod
    def record(cls, content: RawRecord, error: BadEvent) -> Self:
        """Stands for one record."""
        return cls._of(content, error, content.offset, False, False)

    @classmethod
    def batch(cls, content: RawRecord, error: BadEvent, last_offset: int, *, opaque: bool) -> Self:
        """Stands for a batch, whose content has the first of its offsets."""
        return cls._of(content, error, last_offset, True, opaque)

    @classmethod
    def _of(cls, content: RawRecord, error: BadEvent, last: int, whole: bool, opaque: bool) -> Self:
        made = cls(content.offset, content.timestamp_ms, None, None, ())
        made.content, made.error, made.last_offset = content, error, last
        made.whole_batch, made.opaque = whole, opaque
        return made

    @property
    def place(self) -> str:
        """The offsets that it stands for, for messages."""
        if self.last_offset == self.offset:
            return f"offset {self.offset}"
        return f"offsets {self.offset} to {self.last_offset}"


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
