"""Reading fetched records of an aiokafka consumer as raw records, a chunk at a time.

aiokafka's own `getmany` makes an object of eleven fields for each record. This takes the records
out of its fetch buffer itself; all that is private of aiokafka and used here stands in this file.
"""

# ruff: noqa: SLF001 - what aiokafka and Faust keep private and the engine needs is used here
from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchError

from stream.batch.records import RawRecord


class RawReader:
    """A pull interface to an `AIOKafkaConsumer` that somebody else starts and stops.

    Args:
        consumer: A started consumer, with its partitions from the group or by hand.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._waiter: asyncio.Future[None] | None = None

    def take(
        self, partitions: Collection[TopicPartition], limit: int
    ) -> tuple[TopicPartition, list[RawRecord]] | None:
        """Up to `limit` records, at least one, of the partition that has waited longest, or None.

        Raises:
            KafkaError: The broker refused the fetch, or a record is corrupt.
        """
        fetcher = self._consumer._fetcher
        if self._consumer._subscription.reassignment_in_progress:
            return None
        fetched = fetcher._records
        for partition in list(fetched):
            if partition not in partitions:
                continue
            result = fetched[partition]
            if isinstance(result, FetchError):
                self._consumed(partition)
                result.check_raise()
            if result.has_more():
                result._partition_records._consumer_record = _raw_record
            # Empty if the position was moved after the fetch, or for markers of transactions.
            records: list[RawRecord] = result.getall(limit)
            if not result.has_more():
                self._consumed(partition)
            if records:
                return partition, records
        return None

    def _consumed(self, partition: TopicPartition) -> None:
        """Lets aiokafka fetch the partition again."""
        fetcher = self._consumer._fetcher
        del fetcher._records[partition]
        fetcher._notify(fetcher._wait_consume_future)

    async def wait(self, timeout_s: float) -> None:
        """Waits until something was fetched, `wake` is called, or the time is over.

        Raises:
            KafkaError: The consumer cannot go on (authorization, group coordinator, fetcher).
        """
        self.check()
        fetcher = self._consumer._fetcher
        self._waiter = fetcher._create_fetch_waiter()
        try:
            await asyncio.wait([self._waiter], timeout=timeout_s)
            if self._waiter.done():
                self._waiter.result()
        finally:
            if not self._waiter.done():
                self._waiter.cancel()
            self._waiter = None

    def check(self) -> None:
        """Raises what the client has met in the background.

        Raises:
            KafkaError: The consumer cannot go on (authorization, group coordinator, fetcher).
        """
        fetcher = self._consumer._fetcher
        coordinator = self._consumer._coordinator
        if fetcher.error_future.done():
            fetcher.error_future.result()
        if coordinator is not None:
            coordinator.check_errors()

    def wake(self) -> None:
        """Ends a `wait` that is under way."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Marks the time in which the application asks for records.

        A consumer that has not asked for longer than the maximal poll interval leaves its group.
        """
        context = self._consumer._subscription.fetch_context()
        context.__enter__()
        try:
            yield
        finally:
            context.__exit__(None, None, None)

    async def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to take; waits until it is known."""
        return int(await self._consumer.position(partition))

    def position_now(self, partition: TopicPartition) -> int | None:
        """Offset of the next record to take, if it is known."""
        state = self._state(partition)
        return state.position if state is not None and state.has_valid_position else None

    def highwater(self, partition: TopicPartition) -> int | None:
        """Offset of the next record that will be produced, as of the last fetch."""
        state = self._state(partition)
        return None if state is None else state.highwater

    def _state(self, partition: TopicPartition) -> Any:
        subscription = self._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        return subscription.assignment.state_value(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Moves the position; what was fetched before is void."""
        self._consumer.seek(partition, offset)


def _raw_record(_: TopicPartition, record: Any) -> RawRecord:
    headers = record.headers
    # Half the time that the class takes; this runs for every record.
    return tuple.__new__(
        RawRecord,
        (
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(headers) if headers else (),
        ),
    )
