"""What a table keeps of one partition, and where: the seam between the engine and a store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from stream.batch.records import OutputRecord, RawRecord

V = TypeVar("V")

#: Half of the time that a compacted topic keeps a tombstone (delete.retention.ms). Whoever heard
#: nothing of a changelog for longer may have missed one, and begins anew.
OLDEST_MS: Final = 12 * 3600 * 1000


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
        """Takes over records of the changelog, which is here up to `end` then.

        Records that lie before `begin` are of a changelog that was made anew: nothing else counts.
        """

    @abstractmethod
    def forget(self) -> None:
        """Begins anew: nothing is here, up to offset 0."""

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

    # For those who make one

    def _made_anew(self, records: Sequence[RawRecord], end: int) -> bool:
        """Whether these records are of a changelog that what is here does not belong to."""
        return end < self.begin or bool(records and records[0].offset < self.begin)

    def _goes_on(self, records: Sequence[OutputRecord], end: int, alone: bool) -> bool:
        """Whether nothing of others lies between `begin` and the end of what we wrote."""
        return alone or end - len(records) == self.begin


class Store(Protocol):
    """Where the values of partitions are kept."""

    def open(self, changelog: str, partition: int, loads: Callable[[bytes], V]) -> View[V]:
        """The values of one partition, as far as they are here."""
        ...
