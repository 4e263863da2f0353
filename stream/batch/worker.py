"""Running an application in a process: loop, signals, logging levels, exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka.errors import KafkaConnectionError

from clickpath.errors import ClickpathError
from stream.batch.app import BatchApp
from stream.refusals import denied

T = TypeVar("T")

logger = logging.getLogger(__name__)

# aiokafka and Faust build a record for every message or heartbeat at DEBUG, also when nobody
# reads it; below WARNING, Faust tells of its services' lives, which the engine does shorter.
_NOISY = {
    "aiokafka": logging.INFO,
    "aiokafka.consumer": logging.WARNING,
    "asyncio": logging.INFO,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
}

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def quiet_loggers() -> None:
    """Keeps the clients' loggers from saying everything, whatever the root logger is set to."""
    for name, level in _NOISY.items():
        logger_of_client = logging.getLogger(name)
        logger_of_client.setLevel(max(level, logger_of_client.getEffectiveLevel()))


def run(main: Coroutine[Any, Any, T], *, tls: bool = False) -> T:
    """Runs a coroutine on uvloop, or on asyncio's own loop where uvloop is absent or unfit.

    With TLS, uvloop waits up to 30 s for the goodbye of the other side when a connection is closed
    while an answer is on its way (MagicStack/uvloop#471): starts and rebalances would take long.

    Args:
        main: What to run.
        tls: Whether connections to brokers are encrypted.
    """
    if tls:
        return asyncio.run(main)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def run_app(app: BatchApp, *, stop: asyncio.Event | None = None) -> int:
    """Runs an application until SIGTERM, SIGINT, `stop` or a crash.

    A stop finishes the chunk in hand and commits it; it is given up when the broker does not answer
    for twice the time that a rebalance leaves for that. A second signal ends the process at once.

    Returns:
        The exit code: 0 after an ordinary stop, 1 after a crash or a stop that was given up.
    """
    quiet_loggers()
    loop = asyncio.get_running_loop()
    stopping = stop or asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stopping.set)
    ending = [asyncio.create_task(stopping.wait()), asyncio.create_task(app.crash_event.wait())]
    starting = asyncio.create_task(app.start())
    try:
        await asyncio.wait([starting, *ending], return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and starting.exception() is None:
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        for task in ending:
            task.cancel()
    return await _stop(app, starting)


def _sentence(error: BaseException) -> str:
    """The error for a person: its own sentence if it has one."""
    return denied(error) or (str(error) if isinstance(error, ClickpathError) else repr(error))


async def _stop(app: BatchApp, starting: asyncio.Task[None]) -> int:
    crashed = app.crashed
    logger.info("stopping")
    if starting.done() and (error := starting.exception()) is not None:
        # That nobody answers, or that an access rule is missing, is said best in one line.
        known = isinstance(error, KafkaConnectionError) or denied(error) is not None
        logger.critical(
            "the worker could not start: %s", _sentence(error), exc_info=not known and error
        )
        crashed = True
    # Finishing and committing have a limit of their own; what comes after it waits for the broker,
    # which may have gone silent for good.
    patience_s = 2 * app.finish_timeout_s
    ending = asyncio.create_task(app.stop())
    await asyncio.wait([ending], timeout=patience_s)
    if not ending.done():
        logger.critical("not stopped after %.0f s; what is not committed comes again", patience_s)
        ending.cancel()
        crashed = True
    elif (error := ending.exception()) is not None:
        logger.critical("the worker could not stop in order", exc_info=error)
        crashed = True
    starting.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await starting
    if crashed or app.crashed:
        if app.crash_reason is not None:
            logger.critical("the worker has crashed: %s", _sentence(app.crash_reason))
        return 1
    logger.info("stopped")
    return 0
