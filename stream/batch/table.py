"""Keyed state of a topic's partitions, with a compacted changelog behind it.

A value is an immutable object. The table keeps references, hands out the same object to every
reader and turns it into bytes some time after the commit that it belongs to was cut, so a value
that changed afterwards would be stored wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from stream.batch.aside import Aside
from stream.batch.memory import MemoryStore
from stream.batch.records import OutputRecord
from stream.batch.view import Store, View

V = TypeVar("V")

#: Values that a commit has to write: None is a tombstone.
Changes = dict[bytes, V | None]


class NotAssigned(Exception):
    """State of a partition that this worker does not own (any more), or not yet."""


class StaleChunk(NotAssigned):
    """The chunk in hand was taken away by a rebalance; what it computed is dropped."""


class KeyedTable(Generic[V]):
    """State by key for each partition of one batch topic.

    Args:
        name: Its name, for messages.
        source: The batch topic whose partitions it follows.
        changelog: The compacted topic with as many partitions as the source.
        dumps: Makes a value's bytes; called once a key for each commit.
        loads: Makes a value of bytes; called on the first read after a restart.
        check: Called with a partition before each write; raises if nobody may write there.
        store: Where values are kept; in memory if not given.

    Attributes:
        aside: The partitions that this worker keeps but does not own.
    """

    def __init__(
        self,
        name: str,
        *,
        source: str,
        changelog: str,
        dumps: Callable[[V], bytes],
        loads: Callable[[bytes], V],
        check: Callable[[int], None],
        store: Store | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.changelog = changelog
        self._dumps = dumps
        self._check = check
        places: Store = store or MemoryStore()
        self.aside: Aside[V] = Aside(lambda number: places.open(changelog, number, loads))
        self._views: dict[int, View[V]] = {}
        self._changes: dict[int, Changes[V]] = {}
        self._in_doubt: set[int] = set()

    def partition(self, partition: int) -> View[V]:
        """The values of a partition.

        Raises:
            NotAssigned: This worker does not own the partition.
        """
        try:
            return self._views[partition]
        except KeyError:
            raise NotAssigned(f"table {self.name}: partition {partition} is not here") from None

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions whose values are here."""
        return frozenset(self._views)

    def write(self, partition: int, values: Mapping[bytes, V | None]) -> None:
        """Stores values; None deletes. To be called while a chunk of the partition is in hand.

        Let no `await` follow before the chunk's loop body ends.

        Raises:
            StaleChunk: The chunk in hand is of another partition, or was taken away.
        """
        self._check(partition)
        view = self.partition(partition)
        changes = self._changes.setdefault(partition, {})
        view.write(values)
        changes.update(values)

    # The engine's side

    def cut(self, partition: int) -> Changes[V]:
        """Takes the changes since the last cut; they are the caller's now."""
        changes = self._changes.pop(partition, {})
        if changes:
            self._in_doubt.add(partition)
        return changes

    def committed(self, partition: int) -> None:
        """Notes that all cuts of a partition have been committed."""
        self._in_doubt.discard(partition)

    def unsaved(self, partition: int) -> bool:
        """Whether there are changes since the last cut."""
        return bool(self._changes.get(partition))

    def put_back(self, partition: int, changes: Changes[V]) -> None:
        """Takes back changes whose commit failed; newer ones win."""
        if partition in self._views:
            self._changes[partition] = {**changes, **self._changes.get(partition, {})}

    def dump(self, value: V | None) -> bytes | None:
        """The bytes of a value; None for a tombstone."""
        return None if value is None else self._dumps(value)

    def saved(
        self, partition: int, records: Sequence[OutputRecord], end: int, *, alone: bool
    ) -> None:
        """Notes that the changelog has acknowledged records, as `View.saved`."""
        unsaved = self._changes.get(partition, {})
        self.partition(partition).saved(records, end, unsaved=unsaved, alone=alone)

    def begin(self, partition: int) -> View[V]:
        """What is here of a partition that is to be restored; nobody else sees it yet."""
        return self.aside.take(partition)

    def open(self, partition: int, view: View[V]) -> None:
        """Begins a partition that was restored."""
        self._views[partition] = view

    def close(self) -> None:
        """Ends the use of the store; nothing is written from now on."""
        for view in self._views.values():
            view.close()
        self.aside.keep(())

    def drop(self, partition: int) -> None:
        """Gives a partition up; what is here of it is set aside where it is what the changelog has.

        Values that the changelog may not have are not kept: whoever owns the partition next does
        not know them.
        """
        view = self._views.pop(partition, None)
        unsaved = self._changes.pop(partition, None)
        if view is None:
            return
        if unsaved or partition in self._in_doubt:
            view.close()
        else:
            self.aside.put(partition, view)
        self._in_doubt.discard(partition)
