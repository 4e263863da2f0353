"""Rules of reading batches with patience, without a broker."""

from __future__ import annotations

import random

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from stream.batch.records import RawRecord, Unreadable
from stream.batch.unreadable import LenientBatches
from tests.stream.raw_batches import CODECS, Rec, batch

RECORDS = [
    Rec(b"u-1", b"value " * 9, ((b"name", b"content"), ("größe".encode(), None))),
    Rec(None, None),
    Rec(b"", b"", ((b"", b""),)),
]
NOW_MS = 7


def based(raw: bytes, base: int) -> bytes:
    """A batch as a broker has put it at an offset, which no checksum covers."""
    return base.to_bytes(8, "big") + raw[8:]


def read(raw: bytes, position: int = 0, end: int = 1_000) -> list[RawRecord]:
    batches = LenientBatches(raw, place="t[0]", position=position, end=end, now_ms=NOW_MS)
    found: list[RawRecord] = []
    while batches.has_next():
        found += batches.next_batch()
    return found


def read_by_aiokafka(raw: bytes) -> list[RawRecord]:
    batches = MemoryRecords(raw)
    found = []
    while batches.has_next():
        one = batches.next_batch()
        assert one is not None
        assert one.validate_crc()
        found += [RawRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in one]
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_sound_batches_are_read_as_aiokafka_reads_them(codec: int) -> None:
    raw = based(batch(RECORDS, codec=codec), 5) + based(batch(RECORDS[:1]), 8)
    assert read(raw) == read_by_aiokafka(raw)
    assert len(read(raw)) == 4


@pytest.mark.parametrize("codec", CODECS)
def test_whatever_bytes_change_each_batch_is_read_as_it_was_or_stands_as_one_record(
    codec: int,
) -> None:
    luck = random.Random(codec)
    sound = [based(batch(RECORDS, codec=codec), base) for base in (0, 3, 6)]
    first, last = read(sound[0]), read(sound[2])
    for _ in range(2_000):
        # Of the frame - offset and length - no broker gives away what it has not checked.
        bad = bytearray(sound[1])
        for _ in range(luck.randint(1, 4)):
            bad[luck.randrange(17, len(bad))] = luck.randrange(256)
        found = read(sound[0] + bad + sound[2])
        assert (found[:3], found[-3:]) == (first, last)
        if bad != sound[1]:
            [one] = found[3:-3]
            assert isinstance(one, Unreadable)
            assert (one.offset, one.last_offset) == (3, 5)
            assert one.error.code == "bad_checksum"
            assert one.content.value == bytes(bad)


def test_whatever_a_producer_says_of_its_batch_what_follows_is_read() -> None:
    luck = random.Random(5)
    codes = set()
    for _ in range(3_000):
        codec = luck.choice([*CODECS])
        place, new = luck.random(), luck.randrange(256)

        def broken(body: bytes, place: float = place, new: int = new) -> bytes:
            at = int(place * len(body))
            return body[:at] + bytes([new]) + body[at + 1 :]

        told = luck.choice([None, None, 0, 2, 4, -1, 2**31 - 1])
        raw = based(batch(RECORDS, codec=codec, broken=broken, count=told), 3)
        found = read(raw + based(batch(RECORDS), 6))
        assert [each.offset for each in found[-3:]] == [6, 7, 8]
        codes |= {each.error.code for each in found[:-3] if isinstance(each, Unreadable)}
    assert codes == {"bad_compression", "bad_batch", "header_not_utf8"}


def test_a_bad_batch_ends_where_it_says_or_with_what_the_partition_holds_if_none_follows() -> None:
    bad = based(batch(RECORDS, crc=1), 3)
    [one] = read(bad)
    assert isinstance(one, Unreadable)
    assert one.place == "offsets 3 to 5"
    assert one.timestamp_ms == NOW_MS, "nothing that stands in it is believed"
    # The second of three numbers of a batch of 2**31 records, more than there are.
    lying = based(batch(RECORDS, last_delta=2**31 - 1, crc=1), 3)
    [one] = read(lying, end=20)
    assert isinstance(one, Unreadable)
    assert one.last_offset == 19


def test_of_a_batch_that_begins_before_the_position_the_rest_is_told() -> None:
    [one] = read(based(batch(RECORDS, crc=1), 3), position=5)
    assert isinstance(one, Unreadable)
    assert one.place == "offset 5"


def test_where_no_batch_can_be_recognised_the_place_is_told() -> None:
    raw = based(batch(RECORDS), 3)
    old_format = raw[:16] + b"\x01" + raw[17:]
    with pytest.raises(CorruptRecordException, match=r"t\[0\]: .* no batch .* at offset 4"):
        read(old_format, position=4)


def test_a_stand_in_is_no_event_and_no_tombstone() -> None:
    [one, *_] = read(based(batch([Rec(b"key", b"value", ((b"\xff", b"x"),))]), 3))
    assert isinstance(one, Unreadable)
    assert tuple(one) == (3, one.timestamp_ms, None, None, ())
    assert one.content == (3, one.timestamp_ms, b"key", b"value", (("\\xff", b"x"),))
