"""Cleaning: what is taken out of a foreign log before it is replayed, and why.

Rules

1.  Only logs that no worker has seen are cleaned. What a worker has accepted goes into training as
    it was, because a model must see what the worker sees.
2.  Whole clicks or whole users are dropped, each for one counted reason:

        impossible_time   further from the middle of the log than `fence` times the spread of its
                          middle half: dates of 1970, clocks of the next century
        duplicate         the user has an earlier click with the same event id
        bot_rate          the user has more clicks in some minute or day than hands can make
        bot_repetition    the user does nearly nothing but one thing with one product

3.  A price or a dwell, the time between two steps of a session, whose robust z-score on a
    logarithmic scale is beyond `z` is clipped to the bound and counted, not dropped. Where a dwell
    is clipped, the rest of the session moves forward; the next session stays where it is.
4.  The order of arrival is not known from a log: it is taken to be that of time.

A user is a bot for the whole of the log. Which users are left therefore depends on all of it; what
is said about any of them does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.quantiles import Spread, Times
from training.shards import Ints
from training.spill import ACTION, EVENT, ITEM, PLACE, PRICE_CENTS, TS_MS, USER, Spill

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 3_600_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a click or a user is dropped, and an amount clipped.

    Attributes:
        fence: How far, in spreads of the middle half of all times (at least a day), a time may
            lie outside of that half.
        per_minute: Most clicks of a user within a minute.
        per_day: Most clicks of a user within 24 hours.
        repetition_clicks: Fewest clicks of a user who may be called repetitive.
        repetition_share: The share of these that must be one action with one product.
        z: Largest robust z-score of a price or a dwell.
    """

    fence: float = 20.0
    per_minute: int = 60
    per_day: int = 2_000
    repetition_clicks: int = 100
    repetition_share: float = 0.95
    z: float = 3.5


class Cleaner:
    """Cleans the clicks of a spill.

    Args:
        rules: When what is dropped or clipped.
        session_gap_ms: The silence that ends a session.

    Attributes:
        dropped: Clicks that were dropped, by reason.
        clipped: Amounts that were clipped, `price` and `dwell`.
    """

    def __init__(self, rules: Rules, session_gap_ms: int) -> None:
        self._rules = rules
        self._session_gap_ms = session_gap_ms
        self._earliest_ms = self._latest_ms = 0
        self._prices, self._dwells = Spread(), Spread()
        self._price_bounds: tuple[int, int] | None = None
        self._dwell_bounds: tuple[int, int] | None = None
        self.dropped = Counter[str]()
        self.clipped = Counter[str]()

    def clean(self, spill: Spill) -> None:
        """Cleans every bucket of a spill, in two passes: what is left decides what is clipped."""
        times = Times()
        for rows in spill.buckets():
            times.add(rows[:, TS_MS])
        if not times.total:
            return
        low_ms, high_ms = times.about(0.25), times.about(0.75)
        allowed_ms = int(self._rules.fence * max(high_ms - low_ms, _DAY_MS))
        self._earliest_ms, self._latest_ms = low_ms - allowed_ms, high_ms + allowed_ms
        spill.change(self._drop)
        self._price_bounds = self._prices.bounds(self._rules.z)
        self._dwell_bounds = self._dwells.bounds(self._rules.z)
        spill.change(self._clip)

    def _drop(self, rows: Ints) -> Ints:
        """The clicks of a bucket that stay, by user and time."""
        ts_ms = rows[:, TS_MS]
        rows = self._kept(
            rows, (ts_ms < self._earliest_ms) | (ts_ms > self._latest_ms), "impossible_time"
        )
        rows = rows[np.lexsort((rows[:, TS_MS], rows[:, USER]))]
        rows = self._kept(rows, _copies(rows), "duplicate")
        hasty = _hasty(rows, self._rules.per_minute, _MINUTE_MS)
        hasty |= _hasty(rows, self._rules.per_day, _DAY_MS)
        rows = self._kept(rows, hasty, "bot_rate")
        rows = self._kept(rows, self._repetitive(rows), "bot_repetition")
        rows[:, PLACE] = np.arange(len(rows))
        prices = rows[:, PRICE_CENTS]
        self._prices.add(prices[prices > 0])
        dwells_ms, inside = self._dwells_ms(rows)
        self._dwells.add(dwells_ms[inside])
        return rows

    def _kept(self, rows: Ints, dropped: Mask, reason: str) -> Ints:
        count = int(dropped.sum())
        if not count:
            return rows
        self.dropped[reason] += count
        return rows[~dropped]

    def _repetitive(self, rows: Ints) -> Mask:
        """Clicks of users who do one thing with one product; clicks without one do not count."""
        rules = self._rules
        things, kind, clicks = np.unique(
            rows[:, (USER, ACTION, ITEM)], axis=0, return_inverse=True, return_counts=True
        )
        _, user, of_user = np.unique(rows[:, USER], return_inverse=True, return_counts=True)
        of_user = of_user[user]
        same = np.where(things[:, 2] != 0, clicks, 0)[kind.reshape(-1)]
        guilty = (of_user >= rules.repetition_clicks) & (same >= rules.repetition_share * of_user)
        return np.isin(rows[:, USER], np.unique(rows[guilty, USER]))

    def _clip(self, rows: Ints) -> Ints:
        if self._price_bounds is not None:
            prices = rows[:, PRICE_CENTS]
            within = np.where(prices > 0, np.clip(prices, *self._price_bounds), prices)
            self._count_clipped("price", within != prices)
            rows[:, PRICE_CENTS] = within
        if self._dwell_bounds is not None:
            dwells_ms, inside = self._dwells_ms(rows)
            excess_ms = np.where(inside, np.maximum(dwells_ms - self._dwell_bounds[1], 0), 0)
            self._count_clipped("dwell", excess_ms > 0)
            # All that a step is late by, less what its session's first step is late by.
            late_ms = np.cumsum(excess_ms)
            first = np.maximum.accumulate(np.where(inside, 0, np.arange(len(rows))))
            rows[:, TS_MS] -= late_ms - late_ms[first]
        return rows

    def _count_clipped(self, what: str, clipped: Mask) -> None:
        if clipped.any():
            self.clipped[what] += int(clipped.sum())

    def _dwells_ms(self, rows: Ints) -> tuple[Ints, Mask]:
        """Time since the row before, and whether that is a step of the same session."""
        dwells_ms = np.diff(rows[:, TS_MS], prepend=0)
        same = np.diff(rows[:, USER], prepend=-1) == 0
        return dwells_ms, same & (dwells_ms < self._session_gap_ms)


def _copies(rows: Ints) -> Mask:
    """Clicks whose user has an earlier one with the same event id; rows by user and time."""
    order = np.lexsort((np.arange(len(rows)), rows[:, EVENT], rows[:, USER]))
    same = (rows[order][1:, (USER, EVENT)] == rows[order][:-1, (USER, EVENT)]).all(axis=1)
    copies = np.zeros(len(rows), np.bool_)
    copies[order[1:]] = same
    return copies


def _hasty(rows: Ints, most: int, within_ms: int) -> Mask:
    """Clicks of users who have more than `most` within some time; rows by user and time."""
    first, last = rows[:-most], rows[most:]
    if not len(last):
        return np.zeros(len(rows), np.bool_)
    many = (first[:, USER] == last[:, USER]) & (last[:, TS_MS] - first[:, TS_MS] < within_ms)
    return np.isin(rows[:, USER], np.unique(first[many, USER]))
