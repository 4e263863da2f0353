"""Transactions: outputs, changed states and the offset of a partition, all of them or none.

Each partition has a producer of its own, whose transactional id follows from the application and
the partition. Whoever takes a partition over starts a producer under its id before anything is
read: the broker then ends what the last owner left open and refuses whatever that one sends later.
So a commit needs no generation of the group, which aiokafka's transactions cannot carry (KIP-447).

A transaction lives no longer than its commit. Until then the outputs of finished chunks are held
in memory, where a read-committed consumer could not have seen them either.
"""

# ruff: noqa: SLF001 - what aiokafka keeps private and the engine needs is used here
from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from stream.batch.outputs import Outputs
from stream.batch.records import OutputRecord

logger = logging.getLogger(__name__)


class Fenced(KafkaError):
    """Another worker has taken the partition over; nothing of the transaction happened."""


class TransactionLost(KafkaError):
    """A transaction did not end in time; whether it happened is seen after a restart."""


class _Writer:
    """The producer of one partition."""

    def __init__(self, producer: AIOKafkaProducer, *, record_limit_bytes: int) -> None:
        self.producer = producer
        self.outputs = Outputs(lambda: producer, record_limit_bytes=record_limit_bytes)
        # From the beginning of a transaction to its known end.
        self.in_doubt = False

    async def stop(self) -> None:
        manager = self.producer._txn_manager
        ending = manager._transaction_waiter
        if ending is not None and ending.done():
            # Said by whoever waited for it; unread it would be logged once more.
            ending.exception()
        if self.in_doubt:
            # There is no flush of what can no longer be sent.
            self.producer._message_accumulator.fail_all(TransactionLost("given up"))
        with suppress(KafkaError):
            await self.producer.stop()


class Transactions:
    """The transactional producers of the partitions that a worker owns.

    Args:
        producer: Makes an unstarted producer of a transactional id, which is stable and does not
            name the application.
        group_id: Gives the consumer group whose offsets are committed.
        record_limit_bytes: The largest record that may be sent.
        timeout_s: How long one transaction may take.
    """

    def __init__(
        self,
        producer: Callable[[str], AIOKafkaProducer],
        *,
        group_id: Callable[[], str],
        record_limit_bytes: int,
        timeout_s: float = 60.0,
    ) -> None:
        self._producer = producer
        self._group_id = group_id
        self._limit_bytes = record_limit_bytes
        self._timeout_s = timeout_s
        self._writers: dict[TopicPartition, _Writer] = {}
        self._one_at_a_time = asyncio.Lock()

    async def take_over(
        self, partitions: Iterable[TopicPartition], *, still_wanted: Callable[[], bool]
    ) -> None:
        """Starts a producer for each of these partitions, and ends those of all others.

        When it returns, no former owner can commit any more, and what one had committed is seen.

        Raises:
            KafkaError: The broker refuses a transactional id, or has no transactions.
        """
        async with self._one_at_a_time:
            # A partition that was taken away meanwhile must not be fenced off its new owner.
            if not still_wanted():
                return
            await self._stop_all()
            writers = {each: self._writer(each) for each in partitions}
            self._writers.update(writers)
            await _all(each.producer.start() for each in writers.values())

    def _writer(self, partition: TopicPartition) -> _Writer:
        producer = self._producer(f"{partition.topic}-{partition.partition}")
        return _Writer(producer, record_limit_bytes=self._limit_bytes)

    async def settled(self) -> None:
        """Waits until no partition is being taken over."""
        async with self._one_at_a_time:
            pass

    async def run(
        self,
        partition: TopicPartition,
        records: Iterable[list[OutputRecord]],
        offset: int,
    ) -> Mapping[str, int]:
        """Writes records and commits an offset of the partition in one transaction.

        Returns the offset after the last record, by topic.

        After an error other than `Fenced` it is not known whether it happened: the partition has
        to be taken over again before it is read further.

        Raises:
            Fenced: The partition has another owner, or an earlier transaction is in doubt.
            TransactionLost: It took too long.
            OutputTooLarge: A record is over the limit.
            KafkaError: The broker refused it.
        """
        writer = self._writers.get(partition)
        if writer is None or writer.in_doubt:
            raise Fenced(f"{partition} has to be taken over again")
        writer.in_doubt = True
        offsets = {partition: OffsetAndMetadata(offset, "")}
        try:
            async with asyncio.timeout(self._timeout_s):
                ends = await self._run(writer, partition, records, offsets)
        except ProducerFenced as error:
            raise Fenced(f"{partition} has another owner") from error
        except TimeoutError as error:
            raise TransactionLost(
                f"the transaction of {partition} did not end within {self._timeout_s:.0f} s"
            ) from error
        writer.in_doubt = False
        return ends

    async def _run(
        self,
        writer: _Writer,
        partition: TopicPartition,
        records: Iterable[list[OutputRecord]],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> Mapping[str, int]:
        producer = writer.producer
        ends: dict[str, int] = {}
        await producer.begin_transaction()
        try:
            for some in records:
                ends |= await writer.outputs.send(partition.partition, some)
            await producer.send_offsets_to_transaction(dict(offsets), self._group_id())
        except ProducerFenced:
            raise
        except Exception:
            if not producer._txn_manager.is_fatal_error():
                await producer.abort_transaction()
            raise
        await producer.commit_transaction()
        return ends

    async def close(self) -> None:
        """Ends all producers."""
        async with self._one_at_a_time:
            await self._stop_all()

    async def _stop_all(self) -> None:
        writers, self._writers = self._writers, {}
        await _all(each.stop() for each in writers.values())


async def _all(awaitables: Iterable[Awaitable[None]]) -> None:
    for result in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
