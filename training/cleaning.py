"""Cleaning: what is taken out of a foreign log before it is replayed, and why.

Rules

1.  Only logs that no worker has seen are cleaned. What a worker has accepted goes into training as
    it was, because a model must see what the worker sees.
2.  Whole clicks or whole users are dropped, each for one counted reason:

        impossible_time   further from the middle of the log than `fence` times the spread of its
                          middle half: dates of 1970, clocks of the next century
        duplicate         the user has an earlier click with the same event id
        bot_rate          the user has had more clicks in some minute or day than hands can make
        bot_repetition    the user has done nearly nothing but one thing with one product

3.  A price or a dwell, the time between two steps of a session, whose robust z-score on a
    logarithmic scale is beyond `z` is clipped to the bound and counted, not dropped. Where a dwell
    is clipped, the rest of the session moves forward; the next session stays where it is.
4.  The order of arrival is not known from a log: it is taken to be that of time.

5.  Nothing of a later part of the corpus decides about an earlier one: a user who is found out in
    the test part stays in the training part, the bounds of amounts are those of the training part,
    and no step moves across a cut. (The fence of rule 2 looks at all times: whether a date is one
    of this log is no question of its parts.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.examples import Cuts
from training.quantiles import Spread, Times
from training.shards import Ints
from training.spill import ACTION, EVENT, ITEM, PLACE, PRICE_CENTS, TS_MS, USER, Spill

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 3_600_000

Mask = NDArray[np.bool_]
Bounds = tuple[int, int] | None


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
    """Cleans the clicks of a spill, in two stages: the cuts are made between them.

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
        self.dropped = Counter[str]()
        self.clipped = Counter[str]()

    def clean(self, spill: Spill, cut: Callable[[], Cuts]) -> Cuts:
        """Cleans every bucket of a spill.

        Args:
            spill: The clicks.
            cut: Asked for the cuts once copies and impossible times are gone.
        """
        times = Times()
        for rows in spill.buckets():
            times.add(rows[:, TS_MS])
        low_ms, high_ms = times.about(0.25), times.about(0.75)
        allowed_ms = int(self._rules.fence * max(high_ms - low_ms, _DAY_MS))
        spill.change(partial(self._drop_wrong, low_ms - allowed_ms, high_ms + allowed_ms))
        cuts = cut()
        prices, dwells = Spread(), Spread()
        spill.change(partial(self._drop_bots, cuts, prices, dwells))
        z = self._rules.z
        spill.change(partial(self._clip, cuts, prices.bounds(z), dwells.bounds(z)))
        return cuts

    def _drop_wrong(self, earliest_ms: int, latest_ms: int, rows: Ints) -> Ints:
        """The clicks of a bucket without impossible times and copies, by user and time."""
        ts_ms = rows[:, TS_MS]
        rows = self._kept(rows, (ts_ms < earliest_ms) | (ts_ms > latest_ms), "impossible_time")
        rows = rows[np.lexsort((rows[:, TS_MS], rows[:, USER]))]
        rows = self._kept(rows, _copies(rows), "duplicate")
        rows[:, PLACE] = np.arange(len(rows))
        return rows

    def _drop_bots(self, cuts: Cuts, prices: Spread, dwells: Spread, rows: Ints) -> Ints:
        """The clicks of a bucket without bots; counts the amounts of the training part."""
        rules = self._rules
        for end_ms in cuts:
            ts_ms = rows[:, TS_MS]
            before = rows[ts_ms < end_ms]
            # What is known at the end of a part drops the user's clicks of it and of later ones.
            from_ms = max((cut_ms for cut_ms in cuts if cut_ms < end_ms), default=0)
            later = ts_ms >= from_ms
            hasty = _hasty(before, rules.per_minute, _MINUTE_MS)
            hasty |= _hasty(before, rules.per_day, _DAY_MS)
            rows = self._kept(rows, later & _of_users(rows, before[hasty]), "bot_rate")
            later = rows[:, TS_MS] >= from_ms
            same = self._repetitive(before)
            rows = self._kept(rows, later & _of_users(rows, before[same]), "bot_repetition")
        older = rows[rows[:, TS_MS] < cuts.valid_ms]
        amounts = older[:, PRICE_CENTS]
        prices.add(amounts[amounts > 0])
        dwells_ms, inside = self._dwells_ms(older, cuts)
        dwells.add(dwells_ms[inside])
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
        return (of_user >= rules.repetition_clicks) & (same >= rules.repetition_share * of_user)

    def _clip(self, cuts: Cuts, price: Bounds, dwell: Bounds, rows: Ints) -> Ints:
        if price is not None:
            prices = rows[:, PRICE_CENTS]
            within = np.where(prices > 0, np.clip(prices, *price), prices)
            self._count_clipped("price", within != prices)
            rows[:, PRICE_CENTS] = within
        if dwell is not None:
            dwells_ms, inside = self._dwells_ms(rows, cuts)
            excess_ms = np.where(inside, np.maximum(dwells_ms - dwell[1], 0), 0)
            self._count_clipped("dwell", excess_ms > 0)
            # All that a step is late by, less what its session's first step is late by.
            late_ms = np.cumsum(excess_ms)
            first = np.maximum.accumulate(np.where(inside, 0, np.arange(len(rows))))
            rows[:, TS_MS] -= late_ms - late_ms[first]
        return rows

    def _count_clipped(self, what: str, clipped: Mask) -> None:
        if clipped.any():
            self.clipped[what] += int(clipped.sum())

    def _dwells_ms(self, rows: Ints, cuts: Cuts) -> tuple[Ints, Mask]:
        """Time since the row before, and whether that is of the same session and part."""
        ts_ms = rows[:, TS_MS]
        dwells_ms = np.diff(ts_ms, prepend=0)
        part = np.searchsorted(cuts, ts_ms, side="right")
        same = (np.diff(rows[:, USER], prepend=-1) == 0) & (np.diff(part, prepend=-1) == 0)
        return dwells_ms, same & (dwells_ms < self._session_gap_ms)


def _copies(rows: Ints) -> Mask:
    """Clicks whose user has an earlier one with the same event id; rows by user and time."""
    order = np.lexsort((np.arange(len(rows)), rows[:, EVENT], rows[:, USER]))
    same = (rows[order][1:, (USER, EVENT)] == rows[order][:-1, (USER, EVENT)]).all(axis=1)
    copies = np.zeros(len(rows), np.bool_)
    copies[order[1:]] = same
    return copies


def _hasty(rows: Ints, most: int, within_ms: int) -> Mask:
    """Clicks that are more than the `most`th of their user within some time; by user and time."""
    first, last = rows[:-most], rows[most:]
    hasty = np.zeros(len(rows), np.bool_)
    if len(last):
        same = first[:, USER] == last[:, USER]
        hasty[most:] = same & (last[:, TS_MS] - first[:, TS_MS] < within_ms)
    return hasty


def _of_users(rows: Ints, guilty: Ints) -> Mask:
    """Clicks whose user has one of some other clicks."""
    return np.isin(rows[:, USER], guilty[:, USER])
