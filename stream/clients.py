"""aiokafka's clients as all of the product uses them: none leaves a connection open.

Those of aiokafka 0.14.0 do, in four ways:

- `AIOKafkaClient.bootstrap` asks its first broker over a connection that only a local name knows,
  and closes it after an error of Kafka's or a timeout, not when the start is cancelled. So a
  cancelled start is followed down to there.
- A stop ends one part after another, the connections last: when a part fails, or the stop is
  cancelled, the rest stays as it is. Here each part is ended whatever became of the others.
- A request that is made when the client has stopped, or a start that is still under way, opens a
  connection anew. Here it is closed at once, and what wanted it fails.
- A consumer waits for tasks of its own that it has cancelled. If one of them had not begun yet, or
  was about to try something again, that wait ends as if the stop had been cancelled.

Nor does one end for good because the broker has closed a connection: see `_Connection`.
"""

# ruff: noqa: SLF001 - the parts of a client and its connections are private to aiokafka
from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final
from weakref import proxy

import aiokafka.conn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason

from stream.unpacking import UNPACKED_BYTES, bounded

_BOOTSTRAP: Final = AIOKafkaClient.bootstrap.__code__


class _Connection(AIOKafkaConnection):
    """A connection that is broken as soon as it is closed, by whichever side.

    aiokafka learns it a moment later. Until then asyncio drops what is sent; uvloop raises a
    RuntimeError, by which the task that fetches, or follows the brokers, ends for good
    (aio-libs/aiokafka#1038).
    """

    _writer: asyncio.StreamWriter | None

    def send(self, request: Any, expect_response: bool = True) -> Any:
        self._break_if_closed()
        return super().send(request, expect_response)

    def _send_sasl_token(self, payload: bytes, expect_response: bool = True) -> Any:
        self._break_if_closed()
        return super()._send_sasl_token(payload, expect_response)

    def _break_if_closed(self) -> None:
        """What is sent on a broken connection fails as aiokafka expects it."""
        if self._writer is not None and self._writer.transport.is_closing():
            self.close(reason=CloseReason.CONNECTION_BROKEN)


# No client takes another class, and each makes connections in several places.
aiokafka.conn.AIOKafkaConnection = _Connection


class _Connections(dict[Any, AIOKafkaConnection]):
    """The connections of a client, by node; closed as they come once the client is `ended`."""

    ended = False

    def __setitem__(self, node: Any, connection: AIOKafkaConnection) -> None:
        super().__setitem__(node, connection)
        if self.ended:
            connection.close()


class Consumer(AIOKafkaConsumer):
    """A consumer, in whose memory no batch of records becomes larger than it may.

    Args:
        topics: The topics to subscribe to, if any.
        unpacked_bytes: The most that a batch may unpack into.
        settings: Whatever else aiokafka takes.
    """

    _closed: bool

    def __init__(self, *topics: str, unpacked_bytes: int = UNPACKED_BYTES, **settings: Any) -> None:
        super().__init__(*topics, **settings)
        self.unpacked_bytes = unpacked_bytes
        # Where answers come in is the only place to see a batch before the fetcher keeps it.
        # By a proxy, so that the client does not hold itself.
        send = partial(AIOKafkaClient.send, proxy(self._client))
        self._client.send = bounded(send, unpacked_bytes)
        self._dropping: asyncio.Task[None] | None = None
        self._connections = self._client._conns = _Connections()

    async def start(self) -> None:
        """Connects, and joins its group."""
        async with _nothing_left_open(self._connections, self._end):
            await super().start()

    def drop_out(self) -> None:
        """Begins to end it in the midst of a rebalance, whose answer nobody wants; then `stop` it.

        A join that is under way fails with its connection, and the group waits for the session
        timeout. To leave in order would be faster, but a leader that leaves in that moment has the
        embedded broker wait for it forever.
        """
        if self._dropping is None:
            self._dropping = asyncio.create_task(self._drop_out())

    async def _drop_out(self) -> None:
        await asyncio.gather(self._client.close(), _close(self._coordinator))

    async def stop(self) -> None:
        """Leaves its group, and disconnects."""
        if not self._closed:
            self._closed = True
            await self._end()

    async def _end(self) -> None:
        async with AsyncExitStack() as ending:
            ending.push_async_callback(_disconnect, self._client, self._connections)
            if self._fetcher is not None:
                ending.push_async_callback(_close, self._fetcher)
            if self._dropping is not None:
                await self._dropping
            elif self._coordinator is not None:
                await _close(self._coordinator)


class Producer(AIOKafkaProducer):
    """A producer."""

    _closed: bool

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._connections = self.client._conns = _Connections()

    async def start(self) -> None:
        """Connects."""
        async with _nothing_left_open(self._connections, self._end):
            await super().start()

    async def stop(self) -> None:
        """Sends what is left, and disconnects."""
        if not self._closed:
            try:
                await super().stop()
            finally:
                await self._end()

    async def _end(self) -> None:
        if (sending := self._sender.sender_task) is not None:
            # Nobody waits for what it has begun: that fails with the connections.
            sending.cancel()
        await _disconnect(self.client, self._connections)


class Admin(AIOKafkaAdminClient):
    """A client for topics and settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._connections = self._client._conns = _Connections()

    async def start(self) -> None:
        """Connects."""
        async with _nothing_left_open(self._connections, self.close):
            await super().start()

    async def close(self) -> None:
        """Disconnects."""
        await _disconnect(self._client, self._connections)


@asynccontextmanager
async def _nothing_left_open(
    connections: _Connections, end: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Ends what a start has left that was cancelled, or met a stop meanwhile."""
    try:
        yield
    except asyncio.CancelledError as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code is _BOOTSTRAP and (left := frame.f_locals.get("bootstrap_conn")):
                left.close()
        raise
    finally:
        if connections.ended:
            await end()


async def _disconnect(client: AIOKafkaClient, connections: _Connections) -> None:
    connections.ended = True
    await client.close()


async def _close(part: Any) -> None:
    """Closes a part of a consumer; only a cancellation of the caller is one."""
    task = asyncio.current_task()
    assert task is not None
    asked = task.cancelling()
    try:
        await part.close()
    except asyncio.CancelledError:
        if task.cancelling() > asked:
            raise
