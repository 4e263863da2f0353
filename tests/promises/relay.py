"""A TCP relay before a broker that changes what the broker answers, as a bad link would."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_LENGTH = struct.Struct(">i")


@asynccontextmanager
async def relay(broker: str, change: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """The address of a relay to a broker at `host:port`; clients come through it for good.

    Args:
        broker: One broker, alone in its cluster.
        change: Is given each whole answer; what it returns has the same length.
    """
    host, _, port = broker.rpartition(":")
    here = 0
    busy: set[asyncio.Task[None]] = set()

    def readdressed(answer: bytes) -> bytes:
        # A broker tells its own address, to which clients would go past the relay.
        named = host.encode()
        told, mine = (named + _LENGTH.pack(each) for each in (int(port), here))
        return change(answer.replace(told, mine))

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            ask, tell = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pass(reader, tell, bytes), _pass(ask, writer, readdressed))
        finally:
            busy.discard(task)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    here = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{here}"
    finally:
        server.close()
        for task in list(busy):
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def _pass(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, change: Callable[[bytes], bytes]
) -> None:
    try:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = await source.readexactly(_LENGTH.size)
                frame = await source.readexactly(_LENGTH.unpack(size)[0])
                target.write(size + change(frame))
                await target.drain()
    finally:
        target.close()
