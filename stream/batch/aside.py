"""Views of partitions that this worker does not own: standbys, and those about to be restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stream.batch.view import OLDEST_MS, View

V = TypeVar("V")


@dataclass(slots=True)
class _Kept:
    view: View[Any]
    heard_ms: int


class Aside(Generic[V]):
    """What one table keeps aside; whoever takes a view has to read the rest of its changelog.

    Args:
        opened: Opens the view of a partition, as far as the store has it.
        now_ms: Wall clock, epoch milliseconds.
    """

    def __init__(
        self,
        opened: Callable[[int], View[V]],
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._opened = opened
        self._now_ms = now_ms
        self._wanted: frozenset[int] = frozenset()
        self._kept: dict[int, _Kept] = {}

    def keep(self, partitions: Collection[int]) -> None:
        """Keeps these partitions from now on, and closes all others."""
        self._wanted = frozenset(partitions)
        for number in [*self._kept]:
            if number not in self._wanted:
                self._kept.pop(number).view.close()

    def put(self, partition: int, view: View[V]) -> None:
        """Keeps a view, which holds the changelog up to `view.begin`, or closes it."""
        if partition in self._wanted:
            self._kept[partition] = _Kept(view, self._now_ms())
        else:
            view.close()

    def take(self, partition: int) -> View[V]:
        """Hands a view out; what is too old to go on from is begun anew."""
        kept = self._kept.pop(partition, None)
        if kept is None:
            return self._opened(partition)
        if self._now_ms() - kept.heard_ms > OLDEST_MS:
            kept.view.forget()
        return kept.view

    def view(self, partition: int) -> View[V]:
        """The view of a partition that is kept; opened if it is not here yet."""
        if partition not in self._kept:
            self._kept[partition] = _Kept(self._opened(partition), self._now_ms())
        return self._kept[partition].view

    def heard(self, partition: int, at_ms: int) -> bool:
        """Notes when the broker last told about a changelog.

        Returns:
            False if it was silent for so long that the view had to be begun anew.
        """
        kept = self._kept[partition]
        missed = at_ms - kept.heard_ms > OLDEST_MS
        if missed:
            kept.view.forget()
        kept.heard_ms = at_ms
        return not missed
