"""Keyed state of a topic's partitions: in memory, with a compacted changelog behind it.

A value is an immutable object. The table keeps references, hands out the same object to every
reader and turns it into bytes some time after the commit that it belongs to was cut, so a value
that changed afterwards would be stored wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

V = TypeVar("V")

#: Values that a commit has to write: None is a tombstone.
Changes = dict[bytes, V | None]


class NotAssigned(Exception):
    """State of a partition that this worker does not own (any more), or not yet."""


class StaleChunk(NotAssigned):
    """The chunk in hand was taken away by a rebalance; what it computed is dropped."""


class PartitionView(Mapping[bytes, V]):
    """The values of one partition, for reading; it follows what is written later.

    Restored values stay bytes until they are read for the first time.
    """

    __slots__ = ("_live", "_loads", "_stored")

    def __init__(self, loads: Callable[[bytes], V]) -> None:
        self._loads = loads
        self._live: dict[bytes, V] = {}
        self._stored: dict[bytes, bytes] = {}

    def get(self, key: bytes, default: V | None = None) -> V | None:  # type: ignore[override]
        """The value of a key, or `default`."""
        value = self._live.get(key)
        if value is not None:
            return value
        if key in self._stored:
            return self._load(key)
        return default

    def _load(self, key: bytes) -> V:
        value = self._loads(self._stored[key])
        # Removed only now: an error in `loads` must not lose the bytes.
        del self._stored[key]
        self._live[key] = value
        return value

    def __getitem__(self, key: bytes) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._live or key in self._stored

    def __iter__(self) -> Iterator[bytes]:
        yield from list(self._live)
        yield from list(self._stored)

    def __len__(self) -> int:
        return len(self._live) + len(self._stored)

    def _write(self, values: Mapping[bytes, V | None]) -> None:
        live, stored = self._live, self._stored
        if stored:
            for key in values:
                stored.pop(key, None)
        live.update(values)  # type: ignore[arg-type]  # what is None goes at once
        if None in values.values():
            for key, value in values.items():
                if value is None:
                    del live[key]


class KeyedTable(Generic[V]):
    """State by key for each partition of one batch topic.

    Args:
        name: Its name, for messages.
        source: The batch topic whose partitions it follows.
        changelog: The compacted topic with as many partitions as the source.
        dumps: Makes a value's bytes; called once a key for each commit.
        loads: Makes a value of bytes; called on the first read after a restart.
        check: Called with a partition before each write; raises if nobody may write there.
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
    ) -> None:
        self.name = name
        self.source = source
        self.changelog = changelog
        self._dumps = dumps
        self._loads = loads
        self._check = check
        self._views: dict[int, PartitionView[V]] = {}
        self._changes: dict[int, Changes[V]] = {}

    def partition(self, partition: int) -> PartitionView[V]:
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
        view._write(values)  # noqa: SLF001 - the view is this table's own
        changes.update(values)

    # The engine's side

    def cut(self, partition: int) -> Changes[V]:
        """Takes the changes since the last cut; they are the caller's now."""
        return self._changes.pop(partition, {})

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

    def open(self, partition: int, stored: dict[bytes, bytes]) -> None:
        """Begins a partition with what its changelog holds."""
        view = PartitionView(self._loads)
        view._stored = stored  # noqa: SLF001 - the view is this table's own
        self._views[partition] = view

    def drop(self, partition: int) -> None:
        """Forgets a partition."""
        self._views.pop(partition, None)
        self._changes.pop(partition, None)
