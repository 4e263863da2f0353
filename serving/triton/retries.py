"""A budget for retries: a share of the calls, so that retries never become the load."""

from __future__ import annotations

from typing import Final

#: Retries that a call adds to the budget, and the most that it holds.
_EARNED: Final = 0.1
_MOST: Final = 10.0


class RetryBudget:
    """Pays for retries out of earlier calls: one in ten, with ten at once at the most.

    Attributes:
        spent: How many retries it paid for so far.
    """

    def __init__(self) -> None:
        self.spent = 0
        self._left = _MOST

    def earn(self) -> None:
        """A call was answered."""
        self._left = min(self._left + _EARNED, _MOST)

    def spend(self) -> bool:
        """Whether one more retry is paid for."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        self.spent += 1
        return True
