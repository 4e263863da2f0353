"""The models topic as a worker follows it, from its beginning and without a group, and writes it.

Beside the standing, under `active`, each worker that tries a candidate keeps a report of what it
has seen; see `stream.models.reports`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import BaseModel, ConfigDict, ValidationError

from clickpath.errors import NewerVersion, StateError, UsageError
from stream.batch.reader import RawReader
from stream.models.evidence import Evidence, added
from stream.models.record import ACTIVE_KEY, Standing, standing_from_json

logger = logging.getLogger(__name__)

REPORT_PREFIX: Final = b"report/"

#: How long the broker holds back an answer without records.
_WAIT_S: Final = 0.5

_CHUNK_RECORDS: Final = 1_000

#: How long a broker that may be out of reach can hold the end of a connection up.
_END_S: Final = 1.0


class Report(BaseModel):
    """What one worker knows of the candidate of a rollout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rollout: str
    evidence: Evidence


class Sent(Protocol):
    """Sends a record to the models topic, and waits until it is acknowledged."""

    async def __call__(self, key: bytes, value: bytes | None) -> None:
        """Sends it."""
        ...


class Known:
    """What the topic says: filled record by record, in order.

    Attributes:
        standing: Which model decides; None when nothing was ever promoted.
        reports: The workers' reports, by key.
        outdated: Whether the newest record under `active` is one that no reader takes, so that
            compaction would leave the wrong one.
    """

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.reports: dict[bytes, Report] = {}
        self.outdated = False

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Takes the next record; one that cannot be read is logged and passed over.

        Raises:
            NewerVersion: A newer release says which model decides.
        """
        if key is None:
            return
        try:
            if key == ACTIVE_KEY and value is not None:
                standing = standing_from_json(value)
                if standing.after(self.standing):
                    self.standing, self.outdated = standing, False
                else:
                    assert self.standing is not None
                    self.outdated = not standing.says_the_same(self.standing)
            elif key.startswith(REPORT_PREFIX):
                if value is None:
                    self.reports.pop(key, None)
                else:
                    self.reports[key] = Report.model_validate_json(value)
        except NewerVersion:
            raise
        except (StateError, ValidationError) as error:
            logger.error("a record on the models topic is passed over: %s", error)

    def evidence(self, rollout: str, without: bytes | None = None) -> Evidence:
        """What all workers, or all but one, have reported of a rollout."""
        reports = self.reports.items()
        return added(
            report.evidence
            for key, report in reports
            if report.rollout == rollout and key != without
        )


class Follower:
    """Reads the topic into a `Known`, and goes on reading.

    Args:
        consumer: Makes an unstarted consumer without a group.
        topic: Its name.
        known: What is filled.
    """

    def __init__(self, consumer: Callable[[], AIOKafkaConsumer], topic: str, known: Known) -> None:
        self._new = consumer
        self._topic = topic
        self._known = known
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: RawReader | None = None
        self._partitions: frozenset[TopicPartition] = frozenset()

    async def start(self) -> None:
        """Reads all that is on the topic now.

        Raises:
            UsageError: There is no such topic.
        """
        consumer = self._consumer = self._new()
        await consumer.start()
        # A consumer without a subscription knows no partitions of its own accord.
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001
        numbers = cluster.partitions_for_topic(self._topic)
        if not numbers:
            raise UsageError(
                f"there is no topic {self._topic}, which CLICKPATH_MODEL_REPOSITORY needs; "
                "`clickpath topics create` makes it"
            )
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        self._reader, self._partitions = RawReader(consumer), frozenset(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        unseen = set(partitions)
        while unseen:
            await self.read()
            for each in list(unseen):
                mark = consumer.highwater(each)
                end = max(ends[each], mark or 0)
                if mark is not None and await consumer.position(each) >= end:
                    unseen.remove(each)

    async def read(self) -> None:
        """Takes what has come; waits a moment when nothing has."""
        assert self._reader is not None
        taken = await self._reader.next(self._partitions, _CHUNK_RECORDS, _WAIT_S)
        for record in taken[1] if taken else ():
            self._known.take(record.key, record.value)

    async def stop(self) -> None:
        """Ends the connection."""
        if self._consumer is not None:
            await self._consumer.stop()


class Writer:
    """Writes to the topic.

    By a producer of its own: the application's ends before a worker makes its last report.

    Args:
        producer: Makes an unstarted producer.
        topic: Its name.
    """

    def __init__(self, producer: Callable[[], AIOKafkaProducer], topic: str) -> None:
        self._new = producer
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connects."""
        self._producer = self._new()
        await self._producer.start()

    async def send(self, key: bytes, value: bytes | None) -> None:
        """Sends a record, and waits until it is acknowledged.

        Raises:
            KafkaError: The broker refused it, or is out of reach.
        """
        assert self._producer is not None
        await self._producer.send_and_wait(self._topic, value, key=key)

    async def stop(self) -> None:
        """Ends the connection; whatever is unsent nobody waits for any more."""
        if self._producer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._producer.stop()
