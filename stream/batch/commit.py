"""Commits: changed state to the changelogs first, then the offsets that it belongs to.

Where commits are transactions, each partition has one for its outputs, its state and its offset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from stream.batch.cut import Cut
from stream.batch.group import Group
from stream.batch.outputs import Outputs, check_size
from stream.batch.records import OutputRecord
from stream.batch.source import Source
from stream.batch.table import Changes, KeyedTable
from stream.batch.transactions import Fenced

logger = logging.getLogger(__name__)

# Values are made into bytes in slices: agents, heartbeats and pages go on between them.
_SLICE_KEYS = 200

# Outputs in memory from which on a worker does not wait for the next commit that is due.
_HELD_BYTES = 16 << 20


class Committer:
    """Commits everything that finished chunks have done.

    Args:
        group: The worker's membership, whose sources are committed.
        outputs: Where changelog records are sent.
        now_ms: Wall clock for the progress record, epoch milliseconds.
    """

    def __init__(
        self,
        group: Group,
        outputs: Outputs,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._group = group
        self._outputs = outputs
        self._now_ms = now_ms
        self._one_at_a_time = asyncio.Lock()
        self._chunks = 0

    async def commit(self) -> bool:
        """Commits once; calls that come while one is under way do their own afterwards.

        Returns:
            False if this time nothing could be committed: the worker is no member of its group,
            or the broker was not reached. The changes are kept for the next time.

        Raises:
            KafkaError: A failure that no later attempt will mend.
            OutputTooLarge: A state is too large for one record.
        """
        async with self._one_at_a_time:
            begun = time.monotonic()
            try:
                done = await self._commit()
            except Fenced as error:
                # The group will give this worker other partitions. A member that is fenced has to
                # restart: somebody took its partitions without asking the group.
                if await self._group.is_member():
                    raise
                logger.warning("not committed: %s", error)
                done = False
            except KafkaError as error:
                if not error.retriable or self._group.transactions is not None:
                    raise
                logger.warning("commit failed, to be tried again: %r", error)
                done = False
            if done:
                self._note(begun)
            else:
                self._group.progress.commit_failures += 1
            return done

    async def _commit(self) -> bool:
        sources = self._group.sources.values()
        self._group.look_for_topics()
        if not self._group.progress.assignment:
            return True
        if not await self._group.is_member():
            return False
        # From here to the end of the loop there is no await: one point in time for all.
        cuts = [(source, cut) for source in sources for cut in source.cut()]
        if not cuts:
            return True
        if self._group.transactions is not None:
            await _all(self._in_transaction(source, cut) for source, cut in cuts)
            done = True
        else:
            done = await self._in_order(cuts)
        self._group.progress.commits += done
        return done

    async def _in_order(self, cuts: Sequence[tuple[Source, Cut]]) -> bool:
        """Changelogs, then offsets."""
        try:
            await _all(self._write(source, cut) for source, cut in cuts)
            done = await self._group.commit({cut.partition: cut.offset for _, cut in cuts})
        except BaseException:
            for source, cut in cuts:
                source.owned.put_back(cut)
            raise
        if done:
            for source, cut in cuts:
                self._committed(source, cut)
        return done

    async def _write(self, source: Source, cut: Cut) -> None:
        for table, changes in cut.changes:
            for records in _slices(table, changes):
                ends = await self._outputs.send(cut.partition.partition, records)
                source.owned.saved(cut, table, records, ends[table.changelog], alone=False)

    async def _in_transaction(self, source: Source, cut: Cut) -> None:
        """Outputs, changelog and offset of one partition at once."""
        assert self._group.transactions is not None
        written: dict[KeyedTable[Any], list[OutputRecord]] = {}

        def slices() -> Iterator[list[OutputRecord]]:
            yield list(cut.outputs)
            for table, changes in cut.changes:
                for some in _slices(table, changes):
                    written.setdefault(table, []).extend(some)
                    yield some

        try:
            ends = await self._group.transactions.run(cut.partition, slices(), cut.offset)
        except BaseException:
            source.owned.put_back(cut)
            raise
        for table, records in written.items():
            # A transaction is refused to whoever has lost the partition.
            source.owned.saved(cut, table, records, ends[table.changelog], alone=True)
        self._committed(source, cut)

    def _committed(self, source: Source, cut: Cut) -> None:
        source.owned.committed(cut)
        self._group.progress.changelog_records += sum(len(changes) for _, changes in cut.changes)

    def _note(self, begun: float) -> None:
        progress = self._group.progress
        progress.last_commit_monotonic_s = time.monotonic()
        progress.last_commit_ms = self._now_ms()
        progress.last_commit_s = progress.last_commit_monotonic_s - begun
        # Commits that find nothing to do also go well while an agent is stuck in a chunk.
        if progress.chunks != self._chunks or not progress.lag_events or not progress.recovered:
            self._chunks = progress.chunks
            progress.last_moved_monotonic_s = progress.last_commit_monotonic_s


async def _all(awaitables: Iterable[Awaitable[None]]) -> None:
    """Waits for all of them, and raises the first error once none is under way any more."""
    for result in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _slices(table: KeyedTable[Any], changes: Changes[Any]) -> Iterator[list[OutputRecord]]:
    """The changelog records of a cut, some at a time."""
    records = []
    for key, value in changes.items():
        records.append(OutputRecord(table.changelog, key, table.dump(value)))
        if len(records) == _SLICE_KEYS:
            yield records
            records = []
    if records:
        yield records


class HeldOutputs(Outputs):
    """Holds the outputs of a chunk until the transaction that the chunk is part of.

    Args:
        producer: As that of its parent.
        group: The worker's membership, whose one source is given the chunks.
        committer: Is asked to commit before more is held than fits.
        record_limit_bytes: The largest record that may be sent.
    """

    def __init__(
        self,
        producer: Callable[[], Any],
        group: Group,
        committer: Committer,
        *,
        record_limit_bytes: int,
    ) -> None:
        super().__init__(producer, record_limit_bytes=record_limit_bytes)
        self._group = group
        self._committer = committer

    async def send(self, partition: int, records: Iterable[OutputRecord]) -> Mapping[str, int]:
        """Holds records of the chunk in hand; where they will lie is not known yet.

        Raises:
            OutputTooLarge: A record alone is over the limit. Nothing is held then.
            StaleChunk: The chunk in hand is of another partition, or was taken away.
        """
        held = tuple(records)
        for record in held:
            check_size(record, self._limit_bytes)
        (source,) = self._group.sources.values()
        if source.owned.held_bytes > _HELD_BYTES:
            await self._committer.commit()
        # From here there is no await.
        source.hold(partition, held)
        return {}
