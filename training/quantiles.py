"""Quantiles of any number of values, without sorting them and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.shards import Ints

_COARSE_BITS: Final = 22  # 70 minutes in milliseconds
_FINE_BITS: Final = 11

_BINS_PER_OCTAVE: Final = 64
_OCTAVES: Final = 63

#: 1 / the 75 % quantile of the normal distribution: makes the median deviation a standard one.
_NORMAL: Final = 1.4826


class Times:
    """Counts of times, by coarse slices; exact quantiles by a second look at the values."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.total = 0

    def add(self, ts_ms: Ints) -> None:
        """Counts some times, all at least 0."""
        slices, counts = np.unique(ts_ms >> _COARSE_BITS, return_counts=True)
        for number, count in zip(slices.tolist(), counts.tolist(), strict=True):
            self._counts[number] = self._counts.get(number, 0) + count
        self.total += len(ts_ms)

    def about(self, share: float) -> int:
        """The begin of the slice that has the element at `share` of the sorted times."""
        return self._slice(int(share * self.total))[0] << _COARSE_BITS

    def exactly(self, share: float, again: Callable[[], Iterable[Ints]]) -> int:
        """The element at `share` of the sorted times.

        Args:
            share: From 0 to below 1.
            again: The times once more; asked twice.
        """
        number, rank = self._slice(int(share * self.total))
        start, bits = number << _COARSE_BITS, _COARSE_BITS
        while bits:
            bits -= _FINE_BITS
            counts = np.zeros(1 << _FINE_BITS, np.int64)
            for ts_ms in again():
                finer = (ts_ms - start) >> bits
                inside = finer[(finer >= 0) & (finer < len(counts))]
                counts += np.bincount(inside, minlength=len(counts))
            upto = np.cumsum(counts)
            place = int(np.searchsorted(upto, rank, side="right"))
            rank -= int(upto[place] - counts[place])
            start += place << bits
        return start

    def _slice(self, rank: int) -> tuple[int, int]:
        for number in sorted(self._counts):
            if rank < self._counts[number]:
                return number, rank
            rank -= self._counts[number]
        raise AssertionError("a rank beyond the last time")


class Spread:
    """Median and spread of positive amounts on a logarithmic scale, within a percent."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS_PER_OCTAVE * _OCTAVES, np.int64)

    def add(self, amounts: Ints) -> None:
        """Counts some amounts, all at least 0."""
        bins = (np.log2(amounts + 1.0) * _BINS_PER_OCTAVE).astype(np.int64)
        self._counts += np.bincount(bins, minlength=len(self._counts))

    def bounds(self, z: float) -> tuple[int, int] | None:
        """The least and the largest amount whose robust z-score is at most `z`.

        The score of Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993: the distance
        from the median, in median absolute deviations, here of the logarithms. None where more
        than half of the amounts are alike: then nothing can be said.
        """
        if not self._counts.any():
            return None
        bins = np.arange(len(self._counts))
        median = _weighted_median(bins, self._counts)
        deviation = _weighted_median(np.abs(bins - median), self._counts) * _NORMAL
        if not deviation:
            return None
        low, high = ((median + 0.5 + s * z * deviation) / _BINS_PER_OCTAVE for s in (-1, 1))
        return max(0, int(2.0**low) - 1), int(2.0 ** min(high, _OCTAVES - 1.0))


def _weighted_median(values: NDArray[np.int64], counts: Ints) -> int:
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(counts[order])
    return int(values[order][np.searchsorted(upto, (upto[-1] + 1) // 2)])
