"""What a predictor with a cache counts, for the worker's metrics."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

from serving.predictor import Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """Counts since the start, and what is there.

    Attributes:
        hits: Paths of whose user something was kept that was of use.
        misses: Paths that were followed from as far back as the model looks.
        evictions: Users who made room for others.
        entries: Users of whom something is kept.
        size_bytes: What it takes.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    entries: int = 0
    size_bytes: int = 0

    def plus(self, other: CacheCounts) -> CacheCounts:
        """The counts of two caches together."""
        return CacheCounts(
            **{
                each.name: getattr(self, each.name) + getattr(other, each.name)
                for each in fields(self)
            }
        )

    def emptied(self) -> CacheCounts:
        """What remains of a cache that is put aside: what it did."""
        return replace(self, entries=0, size_bytes=0)


@runtime_checkable
class CountsCache(Predictor, Protocol):
    """A predictor that may keep something of users from call to call."""

    def cache_counts(self) -> CacheCounts | None:
        """What happened so far; None where nothing is kept."""
        ...
