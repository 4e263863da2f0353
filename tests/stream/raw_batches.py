"""Batches of records byte by byte, as no client of ours would send them, and what sends them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

CODECS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: gzip_encode,
    2: snappy_encode,
    3: lz4_encode,
    4: zstd_encode,
}
NAMES = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

#: Where fields of a batch begin.
_CRC, _ATTRIBUTES, _LAST_DELTA, _COUNT, _BODY = 17, 21, 23, 57, 61

NOW_MS = 1_700_000_000_000


class Rec(NamedTuple):
    """A record to be; names of headers are bytes."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()


def batch(
    records: Iterable[Rec],
    *,
    codec: int = 0,
    broken: Callable[[bytes], bytes] = bytes,
    count: int | None = None,
    last_delta: int | None = None,
    named_codec: int | None = None,
    crc: int | None = None,
) -> bytes:
    """The bytes of a batch.

    Args:
        records: What is in it.
        codec: How it is compressed, by Kafka's number.
        broken: Changes what stands behind the header, after compression.
        count: The number of records that it tells, if not the true one.
        last_delta: The last offset that it tells, likewise.
        named_codec: The compression that it tells, likewise.
        crc: The checksum, likewise.
    """
    kept = list(records)
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 64 << 20)
    for offset, each in enumerate(kept):
        # Latin-1 puts each byte of a name into the text, which is put right below.
        names = [(name.decode("latin-1"), content) for name, content in each.headers]
        assert builder.append(offset, NOW_MS + offset, each.key, each.value, names) is not None
    head, body = bytearray(builder.build()[:_BODY]), bytes(builder.build()[_BODY:])
    if any(name.decode("latin-1").encode() != name for each in kept for name, _ in each.headers):
        body = b"".join(_record(offset, each) for offset, each in enumerate(kept))
    raw = head + broken(CODECS[codec](body))
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    struct.pack_into(">h", raw, _ATTRIBUTES, codec if named_codec is None else named_codec)
    if last_delta is not None:
        struct.pack_into(">i", raw, _LAST_DELTA, last_delta)
    if count is not None:
        struct.pack_into(">i", raw, _COUNT, count)
    sum_ = calc_crc32c(bytes(raw[_ATTRIBUTES:])) if crc is None else crc
    struct.pack_into(">I", raw, _CRC, sum_)
    assert crc is not None or DefaultRecordBatch(bytes(raw)).validate_crc()
    return bytes(raw)


def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _piece(raw: bytes | None) -> bytes:
    return _varint(-1) if raw is None else _varint(len(raw)) + raw


def _record(offset: int, record: Rec) -> bytes:
    body = b"\0" + _varint(offset) + _varint(offset) + _piece(record.key) + _piece(record.value)
    body += _varint(len(record.headers))
    body += b"".join(_piece(name) + _piece(content) for name, content in record.headers)
    return _varint(len(body)) + body


async def send(servers: str, topic: str, partition: int, raw: bytes) -> str:
    """Sends a batch as it is; the name of the broker's error, or "NoError"."""
    client = AIOKafkaClient(bootstrap_servers=servers)
    await client.bootstrap()
    try:
        await client.set_topics([topic])
        leader = client.cluster.leader_for_partition(_Place(topic, partition))
        answer = await client.send(
            leader, ProduceRequest(None, -1, 10_000, [(topic, [(partition, raw)])])
        )
        [(_, [(_, code, *_)])] = answer.topics
        return for_code(code).__name__
    finally:
        await client.close()


class _Place(NamedTuple):
    topic: str
    partition: int
