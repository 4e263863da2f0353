"""Records that are given back: dead letters and late events, with the reason and their origin.

A record is given back as it came, bytes and headers untouched, so that it can be mended and sent
again. Two kinds of records are given back by reference, as the place where the original lies, for
`clickpath dlq` to fetch from there while the clicks are kept:

-   every record, where user ids become pseudonyms: its bytes may hold an id in any place;
-   elsewhere, one that may hold an e-mail address, a phone number or the number of a card, and a
    compressed batch that cannot be opened to look.

So what is personal never outlives the retention of the topic on which it came.
"""

from __future__ import annotations

from typing import Final

from clickpath.errors import BadEvent
from clickpath.wire.personal import may_hold
from stream.batch.records import Chunk, OutputRecord, RawRecord, Unreadable
from stream.topics import Topics

#: What the headers begin with that tell about a record that is given back.
PREFIX: Final = "clickpath-"

#: A header of what is given back by reference, with the reason for it.
LEFT_OUT: Final = PREFIX + "left-out"

#: A header of what stands for a whole batch: the last offset of it.
LAST_OFFSET: Final = PREFIX + "origin-last-offset"

_Why = tuple[str, bytes]


class Returns:
    """Makes the records for the topics of dead letters and of late events.

    Args:
        topics: Where they go.
        pseudonyms: Whether user ids become pseudonyms.
    """

    def __init__(self, topics: Topics, *, pseudonyms: bool) -> None:
        self._topics = topics
        self._pseudonyms = pseudonyms

    def dead_letter(self, chunk: Chunk, record: RawRecord, error: BadEvent) -> OutputRecord:
        """The record of what is no event, or cannot be read."""
        if isinstance(record, Unreadable) and record.whole_batch:
            return self._bad_batch(chunk, record)
        if isinstance(record, Unreadable):
            record = record.content
        left_out = self._left_out(record)
        # The sentence shows the value that is wrong.
        sentence = "the value is not shown" if left_out else str(error)
        return self._returned(
            self._topics.dead_letter,
            chunk,
            record,
            left_out,
            (PREFIX + "reason", error.code.encode()),
            (PREFIX + "error", sentence.encode("utf-8", "backslashreplace")),
        )

    def _bad_batch(self, chunk: Chunk, batch: Unreadable) -> OutputRecord:
        """The record of a batch: its bytes, and where it lies from and to."""
        return self._returned(
            self._topics.dead_letter,
            chunk,
            batch.content,
            self._left_out(batch.content, opaque=batch.opaque),
            (PREFIX + "reason", batch.error.code.encode()),
            (PREFIX + "error", str(batch.error).encode()),
            (LAST_OFFSET, b"%d" % batch.last_offset),
        )

    def late(self, chunk: Chunk, record: RawRecord, behind_ms: int) -> OutputRecord:
        """The record of what is behind the lateness bound by so much."""
        return self._returned(
            self._topics.late,
            chunk,
            record,
            self._left_out(record),
            (PREFIX + "reason", b"late"),
            (PREFIX + "behind-ms", b"%d" % behind_ms),
        )

    def _left_out(self, record: RawRecord, *, opaque: bool = False) -> tuple[_Why, ...]:
        if self._pseudonyms:
            return ((LEFT_OUT, b"user ids are pseudonyms"),)
        if opaque:
            return ((LEFT_OUT, b"compressed, nobody knows what is in it"),)
        names = (name.encode("utf-8", "replace") for name, _ in record.headers)
        contents = (content for _, content in record.headers)
        if may_hold((record.value, record.key, *names, *contents)):
            return ((LEFT_OUT, b"may hold personal data"),)
        return ()

    @staticmethod
    def _returned(
        topic: str,
        chunk: Chunk,
        record: RawRecord,
        left_out: tuple[_Why, ...],
        *why: _Why,
    ) -> OutputRecord:
        headers = (
            *(() if left_out else record.headers),
            *why,
            *left_out,
            (PREFIX + "origin-topic", chunk.topic.encode()),
            (PREFIX + "origin-partition", b"%d" % chunk.partition),
            (PREFIX + "origin-offset", b"%d" % record.offset),
            (PREFIX + "origin-timestamp-ms", b"%d" % record.timestamp_ms),
        )
        if left_out:
            return OutputRecord(topic, None, b"", headers)
        return OutputRecord(topic, record.key, record.value, headers)
