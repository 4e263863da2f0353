"""Commits: changed state to the changelogs first, then the offsets that it belongs to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.errors import KafkaError

from stream.batch.group import Group
from stream.batch.outputs import Outputs
from stream.batch.records import OutputRecord
from stream.batch.source import Cut
from stream.batch.table import Changes, KeyedTable

logger = logging.getLogger(__name__)

# Values are made into bytes in slices: agents, heartbeats and pages go on between them.
_SLICE_KEYS = 200


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
            except KafkaError as error:
                if not error.retriable:
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
        if not self._group.progress.assignment:
            return True
        if not await self._group.is_member():
            return False
        # From here to the end of the loop there is no await: one point in time for all.
        cuts = [(source, cut) for source in sources for cut in source.cut()]
        if not cuts:
            return True
        try:
            results = await asyncio.gather(
                *(self._write(cut) for _, cut in cuts), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            done = await self._group.commit({cut.partition: cut.offset for _, cut in cuts})
        except BaseException:
            for source, cut in cuts:
                source.put_back(cut)
            raise
        if done:
            self._group.progress.commits += 1
            for source, cut in cuts:
                source.committed(cut)
        return done

    async def _write(self, cut: Cut) -> None:
        for table, changes in cut.changes:
            number = cut.partition.partition
            for records in _slices(table, changes):
                await self._outputs.send(number, records)
            self._group.progress.changelog_records += len(changes)

    def _note(self, begun: float) -> None:
        progress = self._group.progress
        progress.last_commit_monotonic_s = time.monotonic()
        progress.last_commit_ms = self._now_ms()
        progress.last_commit_s = progress.last_commit_monotonic_s - begun
        # Commits that find nothing to do also go well while an agent is stuck in a chunk.
        if progress.chunks != self._chunks or not progress.lag_events or not progress.recovered:
            self._chunks = progress.chunks
            progress.last_moved_monotonic_s = progress.last_commit_monotonic_s


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
