"""How much a batch of records may become when it is unpacked.

A broker bounds what a batch takes as it is sent, by default 1 MB. Unpacked that may be 32 GB
(zstd), 1 GB (gzip) or 255 MB (lz4), and aiokafka unpacks a batch whole. So a fetch is looked
through before the client keeps it:

1.  A batch that can be nothing large, by its size and its method, goes on: nearly all do.
2.  Of zstd the headers of blocks tell more: no block becomes more than 128 KiB.
3.  What is left is unpacked into as much room as is allowed. If it does not fit, its method is
    overwritten with one that does not exist: aiokafka stops there and reads what is before it, and
    the batch is then fetched once more and told as one that cannot be read.

Snappy makes 22 bytes of one at most, so that the broker's limit is one for it, too.

https://kafka.apache.org/documentation/#recordbatch
https://github.com/facebook/zstd/blob/dev/doc/zstd_compression_format.md
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from gzip import GzipFile
from importlib import import_module
from io import BytesIO
from mmap import mmap
from typing import Any, Final

from aiokafka.protocol.fetch import FetchRequest

#: The most that a batch may unpack into, if nothing else is said: clients make batches of 1 MB.
UNPACKED_BYTES: Final = 64 << 20

_GZIP: Final = 1
_ZSTD: Final = 4
_NAMES: Final = {3: "lz4", _ZSTD: "zstd"}

#: Bytes that come out for one at most, by method.
_FACTOR: Final = {_GZIP: 1_032, 3: 255, _ZSTD: 1 << 15}

_ZSTD_BLOCK: Final = 128 << 10

#: How much of gzip is unpacked at once.
_STEP_BYTES: Final = 1 << 20

#: Size, version and attributes of a batch, and where its records begin.
_HEAD: Final = struct.Struct(">8xi4xb4xh")
_BEFORE_SIZE_ENDS: Final = 12
_METHOD_AT: Final = 22
_METHOD_MASK: Final = 7
_RECORDS_AT: Final = 61


class DoesNotFit(Exception):
    """A batch that cannot be unpacked into as many bytes as it may; says so, without a subject."""


_Send = Callable[..., Awaitable[Any]]


def bounded(send: _Send, most_bytes: int) -> _Send:
    """The `send` of a client, in whose fetches no batch unpacks into more than so much."""

    async def sent(node: int, request: Any, **others: Any) -> Any:
        answer = await send(node, request, **others)
        if isinstance(request, FetchRequest):
            for _, partitions in answer.topics:
                for at, (*told, raw) in enumerate(partitions):
                    if (safe := _without_bombs(raw or b"", most_bytes)) is not None:
                        partitions[at] = (*told, safe)
        return answer

    return sent


def _without_bombs(raw: bytes, most_bytes: int) -> bytes | None:
    """What is to be read in place of a fetch of one partition; None for the fetch itself."""
    safe = None
    begin = 0
    while begin + _RECORDS_AT <= len(raw):
        size, version, attributes = _HEAD.unpack_from(raw, begin)
        end = begin + _BEFORE_SIZE_ENDS + max(size, 0)
        if attributes & _METHOD_MASK and version == 2 and end <= len(raw):
            packed = memoryview(raw)[begin + _RECORDS_AT : end]
            try:
                check_unpacked(attributes & _METHOD_MASK, packed, most_bytes)
            except DoesNotFit:
                safe = safe or bytearray(raw)
                safe[begin + _METHOD_AT] |= _METHOD_MASK
        begin = end
    return None if safe is None else bytes(safe)


def check_unpacked(method: int, packed: memoryview, most_bytes: int) -> None:
    """Makes sure that a batch's records do not become too many bytes.

    Args:
        method: How they are compressed, by Kafka's number; not looked at if it is unknown.
        packed: The records as they came.
        most_bytes: The most that they may become.

    Raises:
        DoesNotFit: They become more, or cannot be unpacked.
    """
    if len(packed) * _FACTOR.get(method, 0) <= most_bytes:
        return
    if method == _ZSTD and _zstd_bytes(packed) <= most_bytes:
        return
    try:
        if method == _GZIP:
            _try_gzip(packed, most_bytes)
        else:
            # Pages of it that are not written to take no memory.
            with mmap(-1, most_bytes) as room:
                getattr(import_module("cramjam"), _NAMES[method]).decompress_into(packed, room)
    except Exception as error:
        raise DoesNotFit(
            f"does not unpack into {most_bytes} bytes (CLICKPATH_UNPACKED_MB): {error}"
        ) from error


def _zstd_bytes(packed: memoryview) -> int:
    """What frames of zstd become at most."""
    most = at = 0
    while at + 5 < len(packed):
        if packed[at + 1 : at + 4].tobytes() == b"\x2a\x4d\x18":
            # A frame to be passed over; its size follows.
            at += 8 + int.from_bytes(packed[at + 4 : at + 8], "little")
            continue
        flags = packed[at + 4]
        single, named, summed = flags >> 5 & 1, flags & 3, flags >> 2 & 1
        at += 6 - single + (0, 1, 2, 4)[named] + (single, 2, 4, 8)[flags >> 6]
        last = 0
        while not last and at < len(packed):
            head = int.from_bytes(packed[at : at + 3], "little")
            last, kind, size = head & 1, head >> 1 & 3, head >> 3
            # As it is, one byte again and again, or compressed.
            most += size if kind < 2 else _ZSTD_BLOCK
            at += 3 + (1 if kind == 1 else size)
        at += 4 * summed
    return most


def _try_gzip(packed: memoryview, most_bytes: int) -> None:
    with GzipFile(fileobj=BytesIO(packed)) as file:
        while piece := file.read(_STEP_BYTES):
            most_bytes -= len(piece)
            if most_bytes < 0:
                raise DoesNotFit("there is more")
