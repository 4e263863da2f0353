"""A TCP proxy in a thread of its own: passes bytes on late, or cuts all connections."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Proxy:
    """Stands before a server on the loopback.

    Args:
        target: `host:port` of the server.

    Attributes:
        delay_s: How much later bytes from the client arrive; may be changed at any time.
        connections: How many connections it took so far.
        passed_bytes: How many bytes it passed to the server.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.delay_s = 0.0
        self.connections = 0
        self.passed_bytes = 0
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Resets all connections; new ones are taken."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._cut()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        directions = [
            asyncio.ensure_future(each)
            for each in (
                self._keep(reader, late),
                self._pass_late(late, back),
                self._pass(there, writer),
            )
        ]
        with contextlib.suppress(asyncio.CancelledError):  # the proxy is stopping
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        for each in (writer, back):
            each.transport.abort()
            self._writers.discard(each)

    async def _keep(
        self, reader: asyncio.StreamReader, late: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                late.put_nowait((self._loop.time() + self.delay_s, data))

    async def _pass_late(
        self, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due_s, data = await late.get()
                await asyncio.sleep(due_s - self._loop.time())
                writer.write(data)
                self.passed_bytes += len(data)
                await writer.drain()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
