"""The archive beside a worker: `clickpath archive` as a process that lives as long as the worker.

A process of its own shares neither the worker's loop nor its interpreter: the worker is not slowed
down, and goes on when the archive cannot be written. The reader ends when its standard input ends,
which is when the worker stops it, or dies; it first goes on to the end of the topics.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from typing import Final

from stream.settings import Settings

logger = logging.getLogger(__name__)

#: Waits before a reader that ended by itself is started again.
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0

#: How long a reader may take to come to the end of the topics, and then to stop where it is. What
#: it has not archived by then, the next one will.
_FINISH_S: Final = 20.0
_STOP_S: Final = 5.0


class Beside:
    """Keeps a reader running.

    Args:
        settings: The worker's settings; what they do not say, the reader takes from the same
            environment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a reader at the moment."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts the reader."""
        self._process = await self._start()
        self._keeping = asyncio.create_task(self._keep(self._process))

    async def stop(self) -> None:
        """Lets the reader go on to the end of the topics and stop; waits for it."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if await _ended(process, _FINISH_S):
            return
        logger.warning("the archive is not at the end of the topics; the rest is for the next time")
        process.terminate()
        if not await _ended(process, _STOP_S):
            process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        settings = self._settings
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "clickpath", "archive", "--while-stdin"),
            *("--to", settings.archive, "--bootstrap-servers", settings.bootstrap_servers),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            # Out of reach of a terminal's interrupt: the worker tells it when to end.
            start_new_session=True,
        )

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Starts the reader again whenever it ends; longer and longer after the start before."""
        loop = asyncio.get_running_loop()
        wait_s = _FIRST_WAIT_S
        while True:
            begun_s = loop.time()
            code = await process.wait()
            if loop.time() - begun_s > _LONGEST_WAIT_S:
                wait_s = _FIRST_WAIT_S
            logger.error("the archive ended with code %d; it starts again in %g s", code, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            process = self._process = await self._start()


async def _ended(process: asyncio.subprocess.Process, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
