"""A client whose start is cancelled while its first broker is asked leaves no connection open."""

from __future__ import annotations

import asyncio
import gc
import struct
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from stream.broker import EmbeddedBroker
from stream.clients import Admin, Consumer, Producer
from stream.connection import Connection
from stream.refusals import started

pytestmark = pytest.mark.broker


@asynccontextmanager
async def silent_after_its_first_answer(
    broker: EmbeddedBroker, asked: asyncio.Event
) -> AsyncIterator[Connection]:
    """A broker that tells its versions and then says nothing; sets `asked` at the next question."""
    busy: list[asyncio.Task[None] | None] = []
    host, _, port = broker.bootstrap_servers.partition(":")

    async def frame(reader: asyncio.StreamReader) -> bytes:
        size = await reader.readexactly(4)
        return size + await reader.readexactly(struct.unpack(">i", size)[0])

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.append(asyncio.current_task())
        ask, tell = await asyncio.open_connection(host, int(port))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            tell.write(await frame(reader))
            writer.write(await frame(ask))
            await frame(reader)
            asked.set()
            await frame(reader)
        for each in (tell, writer):
            each.close()
            with suppress(ConnectionError):
                await each.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield Connection(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await asyncio.gather(*filter(None, busy))


@pytest.mark.parametrize("make", [Consumer, Producer, Admin])
async def test_a_cancelled_start_leaves_nothing_open(
    broker: EmbeddedBroker, make: Callable[..., Any]
) -> None:
    asked = asyncio.Event()

    async def use(connection: Connection) -> None:
        async with started(make(**connection.client_arguments()), connection):
            raise AssertionError("it has never had an answer")

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        async with silent_after_its_first_answer(broker, asked) as connection:
            using = asyncio.create_task(use(connection))
            await asyncio.wait_for(asked.wait(), 60)
            using.cancel()
            with pytest.raises(asyncio.CancelledError):
                await using
            gc.collect()
    assert [str(each.message) for each in said] == []
