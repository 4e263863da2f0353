"""Reading fetched records of an aiokafka consumer as raw records, a chunk at a time.

aiokafka's own `getmany` makes an object of eleven fields for each record. This takes the records
out of its fetch buffer itself; all that is private of aiokafka and used here stands in this file.
"""

# ruff: noqa: SLF001 - what aiokafka and Faust keep private and the engine needs is used here
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import FetchError, FetchResult, PartitionRecords
from aiokafka.errors import KafkaError, LeaderNotAvailableError, RequestTimedOutError, for_code
from aiokafka.protocol.fetch import FetchRequest

from stream.batch.records import RawRecord, Unreadable
from stream.batch.unreadable import LenientBatches
from stream.clients import Consumer

logger = logging.getLogger(__name__)

#: Bytes asked for where a batch cannot be read: so many that the beginning of the next one, which
#: tells where the bad one ends, is among them.
_MEND_BYTES: Final = 16 << 20

#: How long the broker may take to find them.
_MEND_WAIT_MS: Final = 1_000


class RawReader:
    """A pull interface to a `Consumer` that somebody else starts and stops.

    `take` gives records, `mend` is to be called where it gives none, then `wait` where that had
    nothing to do either: what the client cannot read comes as `Unreadable`.

    Args:
        consumer: A started consumer, with its partitions from the group or by hand.

    Attributes:
        unreadable: The last record that could not be read; None if all could.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._waiter: asyncio.Future[None] | None = None
        self._broken: dict[TopicPartition, Exception] = {}
        self.unreadable: Unreadable | None = None

    def take(
        self, partitions: Collection[TopicPartition], limit: int
    ) -> tuple[TopicPartition, list[RawRecord]] | None:
        """Up to `limit` records, at least one, of the partition that has waited longest, or None.

        Raises:
            KafkaError: The broker refused the fetch.
            CodecMissing: Records are compressed by a method whose library is not installed.
        """
        fetcher = self._consumer._fetcher
        if self._consumer._subscription.reassignment_in_progress:
            return None
        fetched = fetcher._records
        for partition in list(fetched):
            if partition not in partitions or partition in self._broken:
                continue
            result = fetched[partition]
            if isinstance(result, FetchError):
                self._consumed(partition)
                result.check_raise()
            if result.has_more():
                mended = isinstance(result, _Mended)
                result._partition_records._consumer_record = self._noted if mended else _raw_record
            # Empty if the position was moved after the fetch, or for markers of transactions.
            try:
                records: list[RawRecord] = result.getall(limit)
            except Exception as error:
                if isinstance(result, _Mended):
                    raise
                # It stays where it is until `mend`, so that it is not fetched again meanwhile.
                self._broken[partition] = error
                continue
            if not result.has_more():
                self._consumed(partition)
            else:
                # What is left of it waits behind the others.
                fetched.move_to_end(partition)
            if records:
                return partition, records
        return None

    def _consumed(self, partition: TopicPartition) -> None:
        """Lets aiokafka fetch the partition again."""
        fetcher = self._consumer._fetcher
        del fetcher._records[partition]
        fetcher._notify(fetcher._wait_consume_future)

    async def mend(self) -> bool:
        """Fetches what could not be read once more, to be read with patience.

        Returns:
            Whether there was something to do.

        Raises:
            KafkaError: The broker refused the fetch, for a reason that will not pass.
        """
        if not self._broken:
            return False
        partition, error = self._broken.popitem()
        logger.info("%s[%d] is read batch by batch: %r", *partition, error)
        position = self.position_now(partition)
        if position is None:
            return True
        assignment = self._consumer._subscription.subscription.assignment
        try:
            mended = await self._fetch(partition, position)
        except KafkaError as refused:
            if not refused.retriable:
                raise
            logger.warning("%s[%d] cannot be fetched now: %r", *partition, refused)
            mended = None
        # If the position was moved meanwhile, what was fetched is passed over as ever.
        fetched = self._consumer._fetcher._records
        if mended is not None and partition in fetched:
            fetched[partition] = _Mended(
                partition, partition_records=mended, assignment=assignment, backoff=0.1
            )
        elif partition in fetched:
            self._consumed(partition)
        return True

    async def _fetch(self, partition: TopicPartition, position: int) -> PartitionRecords:
        client, fetcher = self._consumer._client, self._consumer._fetcher
        wanted = [(partition.topic, [(partition.partition, position, _MEND_BYTES)])]
        request = FetchRequest(
            _MEND_WAIT_MS, 1, _MEND_BYTES, fetcher._isolation_level, wanted, rack_id=""
        )
        leader = client.cluster.leader_for_partition(partition)
        if leader in (None, -1):
            raise LeaderNotAvailableError(partition)
        # As the broker has it: the client's own way here changes batches that are too large.
        answered = await AIOKafkaClient.send(client, leader, request)
        topics = answered.to_object()["topics"]
        if not topics:
            # Some brokers answer nothing at all where they have nothing in time.
            raise RequestTimedOutError(partition)
        [answer] = topics[0]["partitions"]
        if answer["error_code"]:
            raise for_code(answer["error_code"])(partition)
        stable = answer["last_stable_offset"]
        batches = LenientBatches(
            answer["message_set"] or b"",
            place=f"{partition.topic}[{partition.partition}]",
            position=position,
            end=stable if stable >= 0 else answer["highwater_offset"],
            now_ms=int(time.time() * 1000),
            unpacked_bytes=self._consumer.unpacked_bytes,
        )
        aborted = [
            (each["producer_id"], each["first_offset"])
            for each in answer["aborted_transactions"] or ()
        ]
        level = fetcher._isolation_level
        return PartitionRecords(
            partition,
            batches,
            aborted,
            position,
            None,
            None,
            check_crcs=False,
            isolation_level=level,
        )

    def _noted(self, _: TopicPartition, record: RawRecord) -> RawRecord:
        """Takes a record of what was mended as it is."""
        if isinstance(record, Unreadable):
            self.unreadable = record
            if record.whole_batch:
                logger.error("%s", record.error)
        return record

    async def next(
        self, partitions: Collection[TopicPartition], limit: int, timeout_s: float
    ) -> tuple[TopicPartition, list[RawRecord]] | None:
        """What `take` gives, for which it waits, and mends what has to be; None when time is over.

        Raises:
            KafkaError: The consumer cannot go on.
            CodecMissing: Records are compressed by a method whose library is not installed.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        with self.polling():
            while (taken := self.take(partitions, limit)) is None:
                if await self.mend():
                    continue
                if (left_s := until_s - loop.time()) <= 0:
                    break
                await self.wait(left_s)
        return taken

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


class _Mended(FetchResult):
    """What was fetched anew, and is read with patience."""


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
