"""Rules of running an application, without a broker."""

from __future__ import annotations

import asyncio
from typing import cast

from stream.batch.app import BatchApp
from stream.batch.worker import run_app


class Application:
    """An application whose stop waits for an answer, with as much patience as it is given."""

    crash_reason = None
    crashed = False

    def __init__(self, finish_timeout_s: float) -> None:
        self.finish_timeout_s = finish_timeout_s
        self.crash_event = asyncio.Event()
        self.answer = asyncio.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        await self.answer.wait()


async def exit_code_of(application: Application) -> int:
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(10):
        return await run_app(cast(BatchApp, application), stop=stop)


async def test_a_stop_does_not_wait_forever_for_a_broker_that_fell_silent() -> None:
    assert await exit_code_of(Application(finish_timeout_s=0.01)) == 1


async def test_a_stop_that_is_answered_in_time_is_an_ordinary_end() -> None:
    application = Application(finish_timeout_s=10)
    application.answer.set()

    assert await exit_code_of(application) == 0
