"""Agents that are given chunks: the topic, the iteration and the rule for errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, cast

import faust

from stream.batch.records import Chunk
from stream.batch.source import Source
from stream.batch.table import StaleChunk

if TYPE_CHECKING:
    from stream.batch.app import BatchApp

logger = logging.getLogger(__name__)


class BatchTopic(faust.Topic):
    """A topic whose agent is given chunks of raw records; nothing is decoded.

    It has no `group_by`, `through`, `take`, joins, forwarding or replies.
    """

    @property
    def source(self) -> Source:
        """The pull side of this topic."""
        return cast("BatchApp", self.app).batch_source(self.get_topic_name())

    def _throw(self, exc: BaseException) -> None:
        # Faust ends the iteration of a channel by throwing StopAsyncIteration into its queue.
        if isinstance(exc, StopAsyncIteration):
            self.source.stop()
        else:
            super()._throw(exc)

    async def throw(self, exc: BaseException) -> None:
        """Passes an exception to whoever iterates over the topic."""
        self._throw(exc)


class BatchStream(faust.Stream[Any]):
    """Iterates over chunks if the topic is a batch topic, otherwise as Faust does.

    Faust acknowledges an event also when the loop's body raises; here asking for the next chunk
    is the acknowledgement, and nothing else is.
    """

    def __aiter__(self) -> AsyncIterator[Any]:
        if isinstance(self.channel, BatchTopic):
            return _Chunks(self.channel.source)
        return super().__aiter__()


class _Chunks(AsyncIterator[Chunk]):
    def __init__(self, source: Source) -> None:
        self._source = source
        source.begin()

    async def __anext__(self) -> Chunk:
        return await self._source.next()


class BatchAgent(faust.Agent):
    """An agent that is never restarted past a chunk that it could not process.

    An exception in it stops the worker with the chunk unacknowledged: whoever supervises the
    process starts it again, and the chunk comes again.
    """

    logger = logging.getLogger("faust.agents")
    mundane_level = "debug"

    async def _execute_actor(self, coro: Awaitable[None], aref: Any) -> None:
        if not isinstance(self.channel, BatchTopic):
            await super()._execute_actor(coro, aref)
            return
        source = self.channel.source
        try:
            await coro
        except asyncio.CancelledError as error:
            source.abandon()
            if self.should_stop or self.app.should_stop:
                raise
            await self._again(aref, error)
        except StaleChunk as error:
            logger.warning("agent %s: %s", self.name, error)
            source.abandon()
            await self._again(aref, error)
        except Exception as error:  # noqa: BLE001 - it crashes the worker
            logger.critical(
                "agent %s failed at %s; the worker stops, and the chunk is not acknowledged: %r",
                *(self.name, source.in_hand, error),
            )
            source.abandon()
            await self.app.crash(error)
        else:
            if not (self.should_stop or self.app.should_stop or source.stopped):
                ended = RuntimeError(f"agent {self.name} ended: it must loop over its chunks")
                logger.critical("%s; the worker stops", ended)
                source.abandon()
                await self.app.crash(ended)

    async def _again(self, aref: Any, error: BaseException) -> None:
        """Lets the supervisor start the agent's function again."""
        await aref.crash(error)
        self.supervisor.wakeup()
