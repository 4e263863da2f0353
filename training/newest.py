"""The newest days of a corpus: what a refresh trains on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from clickpath.errors import UsageError
from training.corpus import Corpus
from training.erased import Erased
from training.examples import Entry
from training.manifest import Source

_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Newest:
    """The clicks of a corpus that are not older than some days before its newest one.

    The corpus is read twice. Paths begin with the first click within these days.

    Attributes:
        corpus: All clicks.
        days: How many.
        from_ms: Event time of the oldest click that is kept.
    """

    corpus: Corpus
    days: float
    from_ms: int

    @staticmethod
    def of(corpus: Corpus, days: float) -> Newest:
        """Looks for the newest click.

        Raises:
            UsageError: There is none.
        """
        newest_ms = max((entry.step.ts_ms for entry in corpus.entries(Counter())), default=None)
        if newest_ms is None:
            raise UsageError("the corpus has no clicks")
        return Newest(corpus, days, newest_ms - int(days * _DAY_MS))

    @property
    def foreign(self) -> bool:
        """See `Corpus`."""
        return self.corpus.foreign

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        """See `Corpus`."""
        for entry in self.corpus.entries(refused):
            if entry.step.ts_ms >= self.from_ms:
                yield entry

    def sources(self) -> tuple[Source, ...]:
        """Those of the corpus, and which part of it."""
        part = Source(name=f"of these the newest {self.days:g} days", bytes=0, sha256="")
        return (*self.corpus.sources(), part)

    def erased(self) -> Erased | None:
        """See `Corpus`."""
        return self.corpus.erased()
