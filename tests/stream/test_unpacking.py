"""Rules of what a compressed batch may become, without a broker."""

from __future__ import annotations

import gc
import gzip
import random
import tracemalloc
import weakref
from collections.abc import Callable

import cramjam
import pytest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from stream.clients import Consumer
from stream.unpacking import DoesNotFit, bounded, check_unpacked
from tests.stream.raw_batches import CODECS, NAMES, Rec, batch

GZIP, LZ4, ZSTD = 1, 3, 4
MIB = 1 << 20

LUCK = random.Random(3)
CONTENTS = {
    "one byte again and again": bytes(3 * MIB),
    "noise": LUCK.randbytes(MIB),
    "text": b"".join(b'{"user": "u-%d"}' % LUCK.randrange(10**6) for _ in range(60_000)),
    "both": bytes(MIB) + LUCK.randbytes(300_000) + bytes(7),
    "little": b"\0" * 999,
}


def flushed(raw: bytes) -> bytes:
    """As zstd of a producer that flushes: many small blocks, which say little of their size."""
    packing = cramjam.zstd.Compressor()
    found = b""
    for begin in range(0, len(raw), 7_000):
        packing.compress(raw[begin : begin + 7_000])
        found += bytes(packing.flush())
    return found + bytes(packing.finish())


def in_pieces(pack: Callable[[bytes], bytes], between: bytes = b"") -> Callable[[bytes], bytes]:
    """As several frames, or members, one behind the other."""

    def packed(raw: bytes) -> bytes:
        return between.join(pack(raw[at : at + 400_000]) for at in range(0, len(raw), 400_000))

    return packed


TO_BE_PASSED_OVER = b"\x53\x2a\x4d\x18\x03\0\0\0abc"
WAYS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip.compress),
    "gzip, in members": (GZIP, in_pieces(gzip.compress, b"\0\0")),
    "lz4": (LZ4, CODECS[LZ4]),
    "zstd": (ZSTD, CODECS[ZSTD]),
    "zstd, flushed": (ZSTD, flushed),
    "zstd, in frames": (ZSTD, in_pieces(CODECS[ZSTD])),
    "zstd, with a frame of no content": (ZSTD, in_pieces(CODECS[ZSTD], TO_BE_PASSED_OVER)),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_allowed_passes_to_the_byte(way: str, content: str) -> None:
    method, pack = WAYS[way]
    raw = CONTENTS[content]
    packed = memoryview(pack(raw))
    check_unpacked(method, packed, len(raw))
    with pytest.raises(DoesNotFit, match=rf"does not unpack into {len(raw) - 1} bytes"):
        check_unpacked(method, packed, len(raw) - 1)


@pytest.mark.parametrize("method", [GZIP, LZ4, ZSTD])
def test_to_see_that_it_is_too_much_takes_no_more_memory_than_is_allowed(method: int) -> None:
    packed = memoryview(CODECS[method](bytes(100 * MIB)))
    tracemalloc.start()
    try:
        with pytest.raises(DoesNotFit, match="does not unpack into"):
            check_unpacked(method, packed, 4 * MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MIB


def test_whatever_bytes_come_they_pass_or_are_refused() -> None:
    luck = random.Random(11)
    refused = 0
    for _ in range(3_000):
        method = luck.choice([GZIP, LZ4, ZSTD])
        packed = bytearray(CODECS[method](CONTENTS["little"] * 20))
        for _ in range(luck.randint(1, 3)):
            packed[luck.randrange(len(packed))] = luck.randrange(256)
        try:
            check_unpacked(method, memoryview(packed)[: luck.randrange(len(packed))], 500)
        except DoesNotFit:
            refused += 1
    assert 0 < refused < 3_000


class Answer:
    def __init__(self, raw: bytes) -> None:
        self.topics = [("clicks", [(0, 0, 99, raw)])]


async def fetched(raw: bytes, most_bytes: int) -> bytes:
    async def send(_node: int, _request: object) -> Answer:
        return Answer(raw)

    request = FetchRequest(0, 1, MIB, 0, [], rack_id="")
    [(_, [(*_, safe)])] = (await bounded(send, most_bytes)(1, request)).topics
    return bytes(safe)


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
async def test_of_a_fetch_the_batch_that_is_too_large_alone_cannot_be_read(codec: int) -> None:
    small = [batch([Rec(b"user", b"value")], codec=each) for each in CODECS]
    bomb = batch([Rec(b"user", bytes(3 * MIB))], codec=codec)
    cut = bomb[:-9]
    safe = MemoryRecords(await fetched(b"".join([*small, bomb, *small, cut]), MIB))
    read: list[bytes | None] = []
    while safe.has_next():
        one = safe.next_batch()
        assert one is not None
        try:
            read += [record.value for record in one]
        except Exception:  # noqa: BLE001 - in whatever way aiokafka says it
            read.append(None)
    assert read == [b"value"] * 5 + [None] + [b"value"] * 5, NAMES[codec]


async def test_a_fetch_without_such_a_batch_is_the_very_one_that_came() -> None:
    raw = b"".join(batch([Rec(b"user", bytes(90_000))], codec=each) for each in CODECS)
    assert await fetched(raw, MIB) == raw
    for short in (b"", raw[:30], raw[:-1], bytes(200), b"\xff" * 200):
        assert await fetched(short, MIB) == short


async def test_a_client_that_looks_at_its_answers_does_not_hold_itself() -> None:
    consumer = Consumer(bootstrap_servers="127.0.0.1:1")
    client = weakref.ref(consumer._client)
    await consumer.stop()
    gc.disable()
    try:
        del consumer
        assert client() is None
    finally:
        gc.enable()
