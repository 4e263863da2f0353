"""State in memory, which is gone with the process."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TypeVar

from stream.batch.records import OutputRecord, RawRecord
from stream.batch.view import View

V = TypeVar("V")


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
        if self._made_anew(records, end):
            self.forget()
        live, stored = self._live, self._stored
        if live:
            # Values from a time when the partition was ours.
            for record in records:
                live.pop(record.key, None)  # type: ignore[arg-type]
        for record in records:
            if record.key is None:
                continue
            if record.value is None:
                stored.pop(record.key, None)
            else:
                stored[record.key] = record.value
        self.begin = end

    def forget(self) -> None:
        """Begins anew."""
        self._live.clear()
        self._stored.clear()
        self.begin = 0

    def saved(
        self,
        records: Sequence[OutputRecord],
        end: int,
        *,
        unsaved: Container[bytes],
        alone: bool,
    ) -> None:
        """Takes over where the changelog has it, for the time when the partition is not ours."""
        if self._goes_on(records, end, alone):
            self.begin = end

    def close(self) -> None:
        """Nothing."""
