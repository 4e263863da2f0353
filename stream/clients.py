"""aiokafka's clients as all of the product uses them: a cancelled start leaves nothing open.

`AIOKafkaClient.bootstrap` (aiokafka 0.14.0, client.py, line 218) asks its first broker over a
connection that only a local name knows, and closes it after an error of Kafka's or a timeout. When
the start is cancelled while that answer is on its way, nobody closes the connection until it is
garbage, which Python warns of. So a cancelled start is followed down to there.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient

from stream.unpacking import UNPACKED_BYTES, bounded

_BOOTSTRAP: Final = AIOKafkaClient.bootstrap.__code__


class Consumer(AIOKafkaConsumer):
    """A consumer, in whose memory no batch of records becomes larger than it may.

    Args:
        topics: The topics to subscribe to, if any.
        unpacked_bytes: The most that a batch may unpack into.
        settings: Whatever else aiokafka takes.
    """

    def __init__(self, *topics: str, unpacked_bytes: int = UNPACKED_BYTES, **settings: Any) -> None:
        super().__init__(*topics, **settings)
        self.unpacked_bytes = unpacked_bytes
        # Where answers come in is the only place to see a batch before the fetcher keeps it.
        self._client.send = bounded(self._client.send, unpacked_bytes)

    async def start(self) -> None:
        """Connects, and joins its group."""
        with _nothing_left_open():
            await super().start()


class Producer(AIOKafkaProducer):
    """A producer."""

    async def start(self) -> None:
        """Connects."""
        with _nothing_left_open():
            await super().start()


class Admin(AIOKafkaAdminClient):
    """A client for topics and settings."""

    async def start(self) -> None:
        """Connects."""
        with _nothing_left_open():
            await super().start()


@contextmanager
def _nothing_left_open() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code is _BOOTSTRAP and (left := frame.f_locals.get("bootstrap_conn")):
                left.close()
        raise
