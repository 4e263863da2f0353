"""Sends raw lines to a topic, keyed, acknowledged by all replicas, in their order within a key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from clickpath.errors import UsageError
from clickpath.logs import RawLine
from stream.clients import Producer
from stream.connection import Connection
from stream.refusals import denied, started

#: Records that may wait for their acknowledgement; bounds memory.
_IN_FLIGHT: Final = 10_000

_MAX_REQUEST_BYTES: Final = 8 << 20


async def produce(
    lines: Iterable[RawLine],
    connection: Connection,
    topic: str,
    *,
    events_per_s: float | None = None,
    progress: Callable[[int], None] = lambda sent: None,
) -> int:
    """Sends all lines and returns their number, once every one has been acknowledged.

    Args:
        lines: What to send; a line without a key goes to a partition of the client's choice.
        connection: The brokers.
        topic: Where to.
        events_per_s: Pace; None is as fast as it goes.
        progress: Called now and then with the number sent so far.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not write there.
        UsageError: The broker refuses a record.
    """
    producer = Producer(
        **connection.client_arguments(),
        acks="all",
        enable_idempotence=False,  # the embedded broker has none; event ids make repeats harmless
        linger_ms=20,
        max_batch_size=256 << 10,
        max_request_size=_MAX_REQUEST_BYTES,
        request_timeout_ms=30_000,
    )
    async with started(producer, connection):
        try:
            return await _send(producer, lines, topic, events_per_s, progress)
        except KafkaError as error:
            if denied(error) is not None:
                raise
            raise UsageError(f"the broker refused a record for {topic}: {error}") from error


async def _send(
    producer: AIOKafkaProducer,
    lines: Iterable[RawLine],
    topic: str,
    events_per_s: float | None,
    progress: Callable[[int], None],
) -> int:
    waiting: deque[asyncio.Future[object]] = deque()
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    sent = 0
    for line in lines:
        if events_per_s is not None:
            ahead_s = begun_s + sent / events_per_s - loop.time()
            if ahead_s > 0.005:
                progress(sent)
                await asyncio.sleep(ahead_s)
        waiting.append(
            await producer.send(topic, line.value, key=line.key, headers=list(line.headers))
        )
        sent += 1
        if len(waiting) >= _IN_FLIGHT:
            progress(sent)
            await waiting.popleft()
    for future in waiting:
        await future
    progress(sent)
    return sent
