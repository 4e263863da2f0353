"""Keyed state of a topic's partitions, with a compacted changelog behind it.

A value is an immutable object. The table keeps references, hands out the same object to every
reader and turns it into bytes some time after the commit that it belongs to was cut, so a value
that changed afterwards would be stored wrongly.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from stream.batch.records import OutputRecord, RawRecord

V = TypeVar("V")

#: Values that a commit has to write: None is a tombstone.
Changes = dict[bytes, V | None]


class NotAssigned(Exception):
    """State of a partition that this worker does not own (any more), or not yet."""


class StaleChunk(NotAssigned):
    """The chunk in hand was taken away by a rebalance; what it computed is dropped."""


class View(Mapping[bytes, V]):
    """The values of one partition, for reading; it follows what is written later.

    Attributes:
        begin: The changelog's offset up to which it is here; 0 for nothing.
    """

    begin: int

    @property
    @abstractmethod
    def size(self) -> int:
        """About how many values there are, without counting them."""

    # The engine's side

    @abstractmethod
    def write(self, values: Mapping[bytes, V | None]) -> None:
        """Changes values; None deletes."""

    @abstractmethod
    def restored(self, records: Sequence[RawRecord], end: int) -> None:
        """Takes over records of the changelog, which is here up to `end` then."""

    @abstractmethod
    def saved(
        self,
        records: Sequence[OutputRecord],
        end: int,
        *,
        unsaved: Container[bytes],
        alone: bool,
    ) -> None:
        """Takes over what the changelog has acknowledged.

        Args:
            records: The records, which were written by us.
            end: The offset after the last one.
            unsaved: Keys that have been changed since.
            alone: Whether nobody else can have written between our records.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives the partition up; nothing is read from it any more."""


class Store(Protocol):
    """Where the values of partitions are kept."""

    def open(self, changelog: str, partition: int, loads: Callable[[bytes], V]) -> View[V]:
        """The values of one partition, as far as they are here."""
        ...


class MemoryStore:
    """Keeps values in memory; a restart finds nothing and reads the whole changelog."""

    def open(self, changelog: str, partition: int, loads: Callable[[bytes], V]) -> View[V]:
        """The values of one partition: none yet."""
        return PartitionView(loads)


class PartitionView(View[V]):
    """The values of one partition in memory.

    Restored values stay bytes until they are read for the first time.
    """

    __slots__ = ("_live", "_loads", "_stored", "begin")

    def __init__(self, loads: Callable[[bytes], V]) -> None:
        self._loads = loads
        self.begin = 0
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

    @property
    def size(self) -> int:
        """The number of values."""
        return len(self)

    def write(self, values: Mapping[bytes, V | None]) -> None:
        """Changes values; None deletes."""
        live, stored = self._live, self._stored
        if stored:
            for key in values:
                stored.pop(key, None)
        live.update(values)  # type: ignore[arg-type]  # what is None goes at once
        if None in values.values():
            for key, value in values.items():
                if value is None:
                    del live[key]

    def restored(self, records: Sequence[RawRecord], end: int) -> None:
        """Takes over records of the changelog."""
        stored = self._stored
        for record in records:
            if record.key is None:
                continue
            if record.value is None:
                stored.pop(record.key, None)
            else:
                stored[record.key] = record.value

    def saved(
        self,
        records: Sequence[OutputRecord],
        end: int,
        *,
        unsaved: Container[bytes],
        alone: bool,
    ) -> None:
        """Nothing: what is in memory is gone with the process."""

    def close(self) -> None:
        """Nothing."""


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
        self._loads = loads
        self._check = check
        self._store: Store = store or MemoryStore()
        self._views: dict[int, View[V]] = {}
        self._changes: dict[int, Changes[V]] = {}

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

    def saved(
        self, partition: int, records: Sequence[OutputRecord], end: int, *, alone: bool
    ) -> None:
        """Notes that the changelog has acknowledged records, as `View.saved`."""
        unsaved = self._changes.get(partition, {})
        self.partition(partition).saved(records, end, unsaved=unsaved, alone=alone)

    def begin(self, partition: int) -> View[V]:
        """What is here of a partition that is to be restored; nobody else sees it yet."""
        return self._store.open(self.changelog, partition, self._loads)

    def open(self, partition: int, view: View[V]) -> None:
        """Begins a partition that was restored."""
        self._views[partition] = view

    def close(self) -> None:
        """Ends the use of the store; nothing is written from now on."""
        for view in self._views.values():
            view.close()

    def drop(self, partition: int) -> None:
        """Forgets a partition."""
        view = self._views.pop(partition, None)
        self._changes.pop(partition, None)
        if view is not None:
            view.close()
