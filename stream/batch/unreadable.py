"""Reading batches that aiokafka gives up on, so that one bad record stops nobody.

aiokafka reads a fetch as a whole: the first name of a header that is no UTF-8, the first wrong
checksum ends it with an exception, again and again. What it could not read is fetched once more and
read here, by these rules:

-   a record whose header has a name that is no UTF-8 becomes an `Unreadable`, the name escaped; the
    records around it are read as ever;
-   a batch with a wrong checksum, one that cannot be decompressed or would become too large, or one
    that is not what it says of itself becomes one `Unreadable` with the bytes of the batch; nothing
    of it is believed.

A batch that cannot be read ends where the next one begins, or, if none is seen, where it says
itself. Only the record format of Kafka 0.11 (v2) is read here, the only one that Kafka 4 has.

https://kafka.apache.org/documentation/#recordbatch
"""

# ruff: noqa: SLF001 - the batch's own reader of aiokafka is used as far as it goes
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint_py

from clickpath.errors import BadEvent, UsageError
from stream.batch.records import RawRecord, Unreadable
from stream.unpacking import UNPACKED_BYTES, DoesNotFit, check_unpacked

#: Base offset and length, before the bytes that the length counts.
_FRAME: Final = struct.Struct(">qi")
_SMALLEST: Final = _DefaultRecordBatchPy.HEADER_STRUCT.size
_MAGIC_AT: Final = 16


class CodecMissing(UsageError):
    """Records are compressed by a method whose library is not installed."""


class LenientBatches:
    """The batches of a fetch, as aiokafka's `PartitionRecords` asks for them.

    Args:
        raw: What the broker sent for one partition.
        place: The partition, for messages.
        position: The first offset that is wanted; a batch may begin before it.
        end: The offset behind the last one that may be read now.
        now_ms: The time for what has none that can be believed, epoch milliseconds.
        unpacked_bytes: The most that a batch may unpack into.
    """

    def __init__(
        self,
        raw: bytes,
        *,
        place: str,
        position: int,
        end: int,
        now_ms: int,
        unpacked_bytes: int = UNPACKED_BYTES,
    ) -> None:
        self._raw = raw
        self._place = place
        self._position = position
        self._end = end
        self._now_ms = now_ms
        self._unpacked_bytes = unpacked_bytes
        self._at = 0

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return self._size(self._at) is not None

    def next_batch(self) -> Batch:
        """The next batch.

        Raises:
            CorruptRecordException: What comes next is no batch of this format, so that nobody knows
                where it ends.
        """
        size = self._size(self._at)
        assert size is not None
        raw = self._raw[self._at : self._at + size]
        if size < _SMALLEST or raw[_MAGIC_AT] != 2:
            raise CorruptRecordException(
                f"{self._place}: there is no batch of records in the format v2 at offset "
                f"{max(self._position, _FRAME.unpack_from(raw)[0])}"
            )
        self._at += size
        return Batch(
            raw,
            place=self._place,
            position=self._position,
            following=self._next_base(),
            end=self._end,
            now_ms=self._now_ms,
            unpacked_bytes=self._unpacked_bytes,
        )

    def _size(self, at: int) -> int | None:
        """The size of the batch there; None if not all of it is here."""
        if at + _FRAME.size > len(self._raw):
            return None
        size: int = _FRAME.size + _FRAME.unpack_from(self._raw, at)[1]
        return size if _FRAME.size <= size <= len(self._raw) - at else None

    def _next_base(self) -> int | None:
        """The first offset of the batch after this one, if the beginning of it is here."""
        if self._at + _FRAME.size > len(self._raw):
            return None
        base: int = _FRAME.unpack_from(self._raw, self._at)[0]
        return base


class Batch:
    """One batch: its records, or one `Unreadable` that stands for them.

    Args:
        raw: Its bytes.
        place: The partition, for messages.
        position: The first offset that is wanted.
        following: The first offset of the batch behind it; None if there is none to be seen.
        end: See `LenientBatches`.
        now_ms: See `LenientBatches`.
        unpacked_bytes: See `LenientBatches`.
    """

    def __init__(
        self,
        raw: bytes,
        *,
        place: str,
        position: int,
        following: int | None,
        end: int,
        now_ms: int,
        unpacked_bytes: int,
    ) -> None:
        self._head = head = _DefaultRecordBatchPy(raw)
        self._raw = raw
        self._place = place
        self._now_ms = now_ms
        self._unpacked_bytes = unpacked_bytes
        self.base_offset = head.base_offset
        self._first = max(self.base_offset, position)
        self.producer_id = head.producer_id
        self.is_transactional = head.is_transactional
        self._sound = head.validate_crc()
        # A batch that was changed on its way may call itself anything.
        self.is_control_batch = head.is_control_batch and self._sound
        last = self.base_offset + head.last_offset_delta
        if not self._sound:
            last = min(last, end - 1) if following is None else following - 1
        self._last = max(self._first, last)
        self.next_offset = self._last + 1

    def validate_crc(self) -> bool:
        """A wrong checksum is told by the record that stands for the batch."""
        return True

    def __iter__(self) -> Iterator[RawRecord]:
        """All of it.

        Raises:
            CodecMissing: It is compressed by a method whose library is not installed.
        """
        return iter(self._read())

    def __next__(self) -> RawRecord:
        """The first record, of a batch that marks the end of a transaction."""
        return self._read()[0]

    def _read(self) -> list[RawRecord]:
        if not self._sound:
            return [self._unreadable("bad_checksum", "the checksum of the batch is wrong")]
        try:
            body = self._decompressed()
        except CodecMissing:
            raise
        except DoesNotFit as error:
            return [self._unreadable("bad_compression", f"the batch {error}")]
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            named = f"the batch cannot be decompressed: {_shown(error)}"
            return [self._unreadable("bad_compression", named)]
        try:
            return _records_in(body, self._head)
        except (IndexError, ValueError) as error:
            named = f"the batch is not what it says: {_shown(error)}"
            return [self._unreadable("bad_batch", named)]

    def _decompressed(self) -> bytearray:
        head = self._head
        known = head.compression_type <= head.CODEC_ZSTD
        try:
            if head.compression_type:
                head._assert_has_codec(head.compression_type)
        except Exception as error:
            if not known:
                raise
            raise CodecMissing(
                f"{self._place} has compressed records from offset {self._first} on: {error}; "
                "cramjam reads them (pip install 'clickpath[worker]')"
            ) from error
        packed = memoryview(self._raw)[head._pos :]
        check_unpacked(head.compression_type, packed, self._unpacked_bytes)
        head._maybe_uncompress()
        return bytearray(memoryview(head._buffer)[head._pos :])

    def _unreadable(self, code: str, sentence: str) -> Unreadable:
        time_ms = self._head.max_timestamp if self._sound else self._now_ms
        return Unreadable.batch(
            RawRecord(self._first, time_ms, None, self._raw, ()),
            BadEvent(code, f"{self._place}, offsets {self._first} to {self._last}: {sentence}"),
            self._last,
            opaque=self._head.compression_type != 0,
        )


def _shown(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:200]


def _records_in(body: bytearray, head: _DefaultRecordBatchPy) -> list[RawRecord]:
    """All records.

    Raises:
        IndexError: The bytes end before the records do.
        ValueError: A size or a number of them cannot be.
    """
    reading = _Reading(body)
    records = [reading.record(head) for _ in range(head._num_records)]
    if reading.at != len(body):
        raise ValueError(f"{len(body) - reading.at} bytes are left behind {len(records)} records")
    return records


class _Reading:
    """Reads one record after the other; IndexError and ValueError tell of what cannot be."""

    def __init__(self, body: bytearray) -> None:
        self._body = body
        self.at = 0

    def record(self, head: _DefaultRecordBatchPy) -> RawRecord:
        """The next record; an `Unreadable` if the name of a header is no UTF-8."""
        size = self._varint()
        begin = self.at
        self.at += 1  # attributes, which have no use yet
        ts_delta, offset_delta = self._varint(), self._varint()
        key, value = self._piece(), self._piece()
        names: list[bytes] = []
        contents: list[bytes | None] = []
        for _ in range(self._count()):
            name = self._piece()
            if name is None:
                raise ValueError("a header has no name")
            names.append(name)
            contents.append(self._piece())
        if self.at - begin != size:
            raise ValueError(f"a record of {size} bytes has {self.at - begin}")
        appended = head.timestamp_type == head.LOG_APPEND_TIME
        time_ms = head.max_timestamp if appended else head.first_timestamp + ts_delta
        escaped = [name.decode("utf-8", "backslashreplace") for name in names]
        content = RawRecord(
            head.base_offset + offset_delta,
            time_ms,
            key,
            value,
            tuple(zip(escaped, contents, strict=True)),
        )
        for number, name in enumerate(names):
            if not _is_text(name):
                told = f"{escaped[number]!r} is no UTF-8 text; it is kept in this form"
                error = BadEvent("header_not_utf8", told, f"headers[{number}]")
                return Unreadable.record(content, error)
        return content

    def _varint(self) -> int:
        number: int
        number, self.at = decode_varint_py(self._body, self.at)
        return number

    def _count(self) -> int:
        count = self._varint()
        if count < 0:
            raise ValueError(f"{count} headers")
        return count

    def _piece(self) -> bytes | None:
        size = self._varint()
        if size < 0:
            return None
        begin, self.at = self.at, self.at + size
        if self.at > len(self._body):
            raise IndexError(f"a piece of {size} bytes goes beyond the end")
        return bytes(self._body[begin : self.at])


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
