"""A worker's membership in the consumer group: assignment in, committed offsets out."""

# ruff: noqa: SLF001 - what aiokafka and Faust keep private and the engine needs is used here
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata

from clickpath.errors import ConfigError
from stream.batch.progress import BatchProgress
from stream.batch.reader import RawReader
from stream.batch.restore import read_changelogs
from stream.batch.standby import Standbys
from stream.batch.table import KeyedTable
from stream.batch.transactions import Transactions
from stream.batch.view import View

if TYPE_CHECKING:
    from stream.batch.source import Source

logger = logging.getLogger(__name__)


class ChangelogMismatch(ConfigError):
    """A table's changelog does not fit the topic that the table follows."""


class Group:
    """The batch topics of one application in its consumer group.

    Args:
        progress: Where it tells what it owns.
        producer: Gives the aiokafka producer once it has started.
        changelog_consumer: Makes an unstarted consumer without a group, to read changelogs; told
            where it goes when an offset is gone: "earliest" or, not at all, "none".
        transactions: Where commits are transactions; None elsewhere.
    """

    def __init__(
        self,
        *,
        progress: BatchProgress,
        producer: Callable[[], AIOKafkaProducer],
        changelog_consumer: Callable[[str], AIOKafkaConsumer],
        transactions: Transactions | None = None,
    ) -> None:
        self.progress = progress
        self._producer = producer
        self.sources: dict[str, Source] = {}
        self.transactions = transactions
        self._changelog_consumer = changelog_consumer
        self.standbys = Standbys(lambda: changelog_consumer("none"), progress)
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The client that is the member of the group; there is one once the worker started."""
        if self._consumer is None:
            raise RuntimeError("the worker has not started")
        return self._consumer

    def attach(self, consumer: AIOKafkaConsumer) -> None:
        """Tells which client is the member of the group."""
        self._consumer = consumer

    def owns(self, topic: str) -> bool:
        """Whether a topic is read in chunks."""
        return topic in self.sources

    # Rebalances, in this order

    def close(self) -> None:
        """Hands out no further chunk."""
        self.progress.recovered = False
        self.standbys.pause()
        for source in self.sources.values():
            source.close()

    async def quiesce(self, timeout_s: float) -> None:
        """Waits until no chunk is in hand, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                for source in self.sources.values():
                    await source.quiesce()
                if self.transactions is not None:
                    await self.transactions.settled()
        except TimeoutError:
            logger.error("a chunk is still in hand after %.0f s; it will come again", timeout_s)

    def revoke(self) -> None:
        """All partitions are gone."""
        if self.progress.assignment:
            logger.info("revoked: %s", _named(self.progress.assignment))
        self.progress.assignment = frozenset()
        for source in self.sources.values():
            source.revoke()

    def assign(
        self, partitions: Iterable[tuple[str, int]], standbys: Iterable[tuple[str, int]] = ()
    ) -> None:
        """These partitions are ours from now on, and those we follow in case they become ours."""
        ours = frozenset((topic, number) for topic, number in partitions if self.owns(topic))
        others = frozenset(each for each in standbys if self.owns(each[0])) - ours
        self.progress.assignment = ours
        logger.info("assigned: %s", _named(ours) or "no partition")
        if others:
            logger.info("standby for: %s", _named(others))
        self.progress.rebalances += 1
        for source in self.sources.values():
            source.assign(_numbers(ours, source.topic), _numbers(others, source.topic))
        self.standbys.assign(
            {
                TopicPartition(table.changelog, number): table.aside
                for topic, number in others
                for table in self.sources[topic].tables
            }
        )

    async def end(self) -> None:
        """Lets go of everything; the worker has left the group."""
        self.standbys.assign({})
        if self.transactions is not None:
            await self.transactions.close()
        for source in self.sources.values():
            for table in source.tables:
                table.close()

    def source_is_ready(self) -> None:
        """Notes that a source has restored all that it was assigned."""
        self.progress.recovered = all(each.ready for each in self.sources.values())
        self.progress.recovered_monotonic_s = time.monotonic()
        if self.progress.recovered:
            self.standbys.resume()

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has, as far as the client knows; 0 if it does not."""
        numbers = self.consumer.partitions_for_topic(topic)
        return len(numbers or ())

    def look_for_topics(self) -> None:
        """Has the client ask for topics that it lost sight of, as behind a broker that just began.

        The member that leads the group gives nobody partitions of a topic that it does not see, and
        would look again when what it knows is old: after five minutes. Once it sees the topic it
        has the group rebalance by itself.
        """
        if self._consumer is not None and not all(map(self.partitions_of, self.sources)):
            self._consumer._client.force_metadata_update()

    # State and offsets

    async def positions(
        self,
        partitions: Collection[TopicPartition],
        reader: RawReader,
        *,
        still_wanted: Callable[[], bool],
    ) -> Mapping[int, int]:
        """Where newly assigned partitions of one topic begin, by partition number.

        Raises:
            IllegalStateError: One was taken away meanwhile.
        """
        if self.transactions is not None:
            await self.transactions.take_over(partitions, still_wanted=still_wanted)
            for each in partitions:
                # What the client knows may be older than what the last owner committed.
                offset = await self.consumer.committed(each)
                if offset is not None and offset != await reader.position(each):
                    reader.seek(each, offset)
        return {each.partition: await reader.position(each) for each in partitions}

    async def restore(
        self,
        tables: Collection[KeyedTable[Any]],
        numbers: Collection[int],
        *,
        still_wanted: Callable[[], bool],
    ) -> bool:
        """Brings tables' states of partitions here; False if they are not wanted any more."""
        views = {(table, number): table.begin(number) for table in tables for number in numbers}
        kept = False
        try:
            kept = not views or await self._read(
                {TopicPartition(t.changelog, number): view for (t, number), view in views.items()},
                still_wanted,
            )
        finally:
            for (table, number), view in views.items():
                if kept:
                    table.open(number, view)
                else:
                    # The next assignment tells whether somebody goes on from there.
                    table.aside.put(number, view)
        return kept

    async def _read(
        self, views: Mapping[TopicPartition, View[Any]], still_wanted: Callable[[], bool]
    ) -> bool:
        consumer = self._changelog_consumer("earliest")
        try:
            await consumer.start()
            records = await read_changelogs(consumer, views, still_wanted=still_wanted)
        finally:
            await consumer.stop()
        self.progress.restored_records += records or 0
        return records is not None and still_wanted()

    async def check_changelog(self, changelog: str, source: str) -> None:
        """Makes sure that each partition of a source has a changelog partition of its own.

        Raises:
            ChangelogMismatch: It has not.
        """
        partitions_for = self._producer().partitions_for
        wanted = len(await partitions_for(source))
        try:
            found = len(await partitions_for(changelog))
        except UnknownTopicOrPartitionError:
            found = 0
        if found != wanted:
            raise ChangelogMismatch(
                f"the changelog {changelog} has {found} partitions and its source {source} has "
                f"{wanted}; both topics are to be made with the same number"
            )

    async def look_at_ends(self) -> None:
        """Asks the broker how far the partitions' ends are, for the lag in `progress`."""
        cluster = self.consumer._client.cluster
        self.progress.missing = frozenset(
            topic for topic in self.sources if not cluster.partitions_for_topic(topic)
        )
        ours = [TopicPartition(*each) for each in self.progress.assignment]
        if not self.progress.recovered or not ours:
            return
        try:
            ends = await self.consumer.end_offsets(ours)
        except KafkaError as error:
            logger.warning("the ends of the partitions are not known: %r", error)
            return
        for source in self.sources.values():
            source.look(ends)

    async def is_member(self) -> bool:
        """Whether the broker still counts this worker in, asked right now.

        A worker that slept longer than the session timeout does not know that its partitions
        have another owner; asking before each write to the changelog keeps it from overwriting
        what the new owner wrote.
        """
        coordinator = self.consumer._coordinator
        if coordinator.generation < 0:
            return False
        return bool(await coordinator._do_heartbeat())

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commits offsets; False if the group has moved on without this worker.

        Raises:
            KafkaError: The broker refused.
        """
        try:
            await self.consumer.commit(
                {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError) as error:
            logger.warning("offsets not committed, the group has moved on: %s", error)
            return False
        return True


def _numbers(partitions: Iterable[tuple[str, int]], topic: str) -> frozenset[int]:
    return frozenset(number for name, number in partitions if name == topic)


def _named(partitions: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{topic}[{number}]" for topic, number in sorted(partitions))
