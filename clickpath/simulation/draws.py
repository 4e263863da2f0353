"""Random sequences that are equal on every machine, and small enough for one per shopper.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
64 bits of state, where `random.Random` keeps 2.5 KB. What is derived from a draw uses only
operations that IEEE 754 rounds exactly (no logarithm, no power), so that no build of Python and no
maths library gives another shop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import sqrt
from typing import Final

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_UNIT: Final = 2.0**-53


class Draws:
    """A sequence of random numbers that follows from a few integers.

    Args:
        key: What the sequence is for; other keys give other sequences.
    """

    __slots__ = ("_state",)

    def __init__(self, *key: int) -> None:
        self._state = 0
        for part in key:
            self._state = (self._state ^ part) & _MASK
            self.bits()
            self._state = self.bits()

    def bits(self) -> int:
        """The next 64 bits."""
        self._state = z = (self._state + _GOLDEN) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def unit(self) -> float:
        """A number in [0, 1)."""
        return (self.bits() >> 11) * _UNIT

    def below(self, count: int) -> int:
        """An integer in [0, count)."""
        return int(self.unit() * count)

    def odds(self, odds: float) -> bool:
        """Whether something happens for which the odds are `odds` to 1."""
        return self.unit() * (1.0 + odds) < odds

    def about(self, median: float) -> float:
        """A positive number around a median, with a long tail: log-logistic of shape 2."""
        u = self.unit()
        return median * sqrt((u + _UNIT) / (1.0 - u))

    def rank(self, cumulative: Sequence[float]) -> int:
        """An index, drawn by cumulative weights (rising, the last one is their sum)."""
        return min(bisect_right(cumulative, self.unit() * cumulative[-1]), len(cumulative) - 1)
