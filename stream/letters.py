"""Dead letters: records that are no event, as they lie on their topic and in a file for repair.

In a file a letter is one JSON object:

    origin   {"topic", "partition", "offset"} of the record that was refused; of a batch that could
             not be read the first offset, and "last_offset"
    reason   the reason code
    error    the sentence
    key      text, {"hex": ...} for bytes that are no UTF-8 text, or null
    value    likewise
    headers  the record's own headers, pairs of name and content, likewise
    left_out true if key, value and headers have to be fetched from the origin, as those of a batch
             are in any case; else absent

A record that does not fit on a topic even so - compressed, it may hold far more than the limit of
its own topic - is cut down, and says so in the header `clickpath-cut-from-bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clickpath.errors import UsageError
from stream.batch.outputs import size_bytes
from stream.batch.records import OutputRecord
from stream.reading import StoredRecord
from stream.returned import LAST_OFFSET, LEFT_OUT, PREFIX

#: What is left of a value, or a key, that is cut: enough to see what it is.
_KEPT_BYTES: Final = 64 << 10

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter.

    Attributes:
        origin: Topic, partition and offset of the record that was refused.
        reason: Why, as a code.
        error: Why, as a sentence.
        key: The record's key, untouched.
        value: The record's bytes, untouched (or mended, when read from a file).
        own_headers: The headers that the record had before it was refused.
        where: Where the letter lies, for messages.
        left_out: Whether key, value and headers are not here but where the origin says.
        last_offset: The last offset of a batch that could not be read; None for one record.
    """

    origin: tuple[str, int, int]
    reason: str
    error: str
    key: bytes | None
    value: bytes | None
    own_headers: Headers
    where: str
    left_out: bool = False
    last_offset: int | None = None

    @property
    def places(self) -> range:
        """The offsets that it is about."""
        first = self.origin[2]
        return range(first, (first if self.last_offset is None else self.last_offset) + 1)

    def to_json(self) -> dict[str, object]:
        """The letter as it stands in a file."""
        topic, partition, offset = self.origin
        return {
            "origin": {
                "topic": topic,
                "partition": partition,
                "offset": offset,
                **({} if self.last_offset is None else {"last_offset": self.last_offset}),
            },
            "reason": self.reason,
            "error": self.error,
            "key": text_of(self.key),
            "value": text_of(self.value),
            "headers": [[name, text_of(content)] for name, content in self.own_headers],
            **({"left_out": True} if self.left_out else {}),
        }


def cut_to_fit(records: Iterable[OutputRecord], limit_bytes: int) -> list[OutputRecord]:
    """The records, those that were refused and are larger than `limit_bytes` cut down below it."""
    return [
        _cut(each) if size_bytes(each) > limit_bytes and _is_refused(each) else each
        for each in records
    ]


def _is_refused(record: OutputRecord) -> bool:
    return any(name == PREFIX + "reason" for name, _ in record.headers)


def _cut(record: OutputRecord) -> OutputRecord:
    """The beginning of key and value, and what Clickpath says of the record."""
    ours = tuple(header for header in record.headers if header[0].startswith(PREFIX))
    size = (PREFIX + "cut-from-bytes", b"%d" % size_bytes(record))
    key, value = (raw and raw[:_KEPT_BYTES] for raw in (record.key, record.value))
    return record._replace(key=key, value=value, headers=(*ours, size))


def letter_from_record(record: StoredRecord) -> Letter:
    """The letter in a record of the dead-letter topic.

    Raises:
        UsageError: The record has not the headers of a dead letter.
    """
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    ours = {name: value or b"" for name, value in record.headers if name.startswith(PREFIX)}
    try:
        origin = (
            ours[PREFIX + "origin-topic"].decode(),
            int(ours[PREFIX + "origin-partition"]),
            int(ours[PREFIX + "origin-offset"]),
        )
        reason = ours[PREFIX + "reason"].decode()
        last_offset = int(ours[LAST_OFFSET]) if LAST_OFFSET in ours else None
    except (KeyError, ValueError) as error:
        raise UsageError(f"{where} is no dead letter of Clickpath: {error}") from error
    return Letter(
        origin=origin,
        reason=reason,
        error=ours.get(PREFIX + "error", b"").decode("utf-8", "replace"),
        key=record.key,
        # The bytes of a batch are none of an event: its records are where it lies.
        value=record.value if last_offset is None else b"",
        own_headers=tuple(h for h in record.headers if not h[0].startswith(PREFIX)),
        where=where,
        left_out=LEFT_OUT in ours or last_offset is not None,
        last_offset=last_offset,
    )


def letter_from_json(fields: Any, where: str) -> Letter:
    """The letter in one line of a file.

    Raises:
        UsageError: The line is no letter; names the place.
    """
    try:
        origin: Mapping[str, Any] = fields["origin"]
        return Letter(
            origin=(str(origin["topic"]), int(origin["partition"]), int(origin["offset"])),
            reason=str(fields["reason"]),
            error=str(fields.get("error", "")),
            key=bytes_of(fields["key"]),
            value=bytes_of(fields["value"]),
            own_headers=tuple(
                (str(name), bytes_of(content)) for name, content in fields["headers"]
            ),
            where=where,
            # A line with a value has been mended.
            left_out=bool(fields.get("left_out")) and not fields["value"],
            last_offset=None if "last_offset" not in origin else int(origin["last_offset"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{where} is no dead letter: {error!r}") from error


def text_of(raw: bytes | None) -> object:
    """Bytes as JSON: text where they are text, else their hexadecimal."""
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"hex": raw.hex()}


def bytes_of(text: Any) -> bytes | None:
    """The inverse of `text_of`."""
    if text is None:
        return None
    if isinstance(text, str):
        return text.encode("utf-8")
    return bytes.fromhex(text["hex"])
