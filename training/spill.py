"""A spill: clicks of any number, spread over files by the hash of their user.

A user's clicks are all in one file, a bucket, and users do not see one another in the replay; so
buckets are cleaned and replayed one at a time, and memory holds one of them. A bucket that has
become too large is split by the next digit of the hash, until each is small enough or holds a
single user.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import starmap
from pathlib import Path
from typing import Final

import numpy as np

from clickpath.steps import Line, Step
from training.examples import Entry
from training.shards import Ints

#: The columns of a bucket. Of the cart lines only their number: it counts against the window's
#: limits, and nothing else about them reaches the encoder.
COLUMNS: Final = (
    "user",
    "place",
    "ts_ms",
    "event",
    "action",
    "item",
    "category",
    "price_cents",
    "value_cents",
    "lines",
)
USER, PLACE, TS_MS, EVENT, ACTION, ITEM, CATEGORY, PRICE_CENTS = range(8)

#: Most clicks in a bucket: 4 MB.
BUCKET_CLICKS: Final = 50_000

_DIGIT_BITS: Final = 4
_FILES: Final = 1 << _DIGIT_BITS
_DIGITS: Final = 63 // _DIGIT_BITS
_WIDTH: Final = len(COLUMNS)
_MOST_AT_ONCE: Final = 4096
_LINE: Final = Line("", 0, 0)


class Spill:
    """Clicks on disk, in buckets.

    Args:
        folder: An empty folder for the files.
        bucket_clicks: Most clicks in a bucket, unless a single user has more.

    Attributes:
        clicks: How many have been added.
    """

    def __init__(self, folder: Path, bucket_clicks: int = BUCKET_CLICKS) -> None:
        self._folder = folder
        self._bucket_clicks = bucket_clicks
        self._waiting_clicks = min(_MOST_AT_ONCE, bucket_clicks // _FILES)
        self._waiting = [array("q") for _ in range(_FILES)]
        self._buckets: list[Path] = []
        self.clicks = 0

    def add(self, entry: Entry) -> None:
        """Adds one click."""
        user, place, (ts_ms, event, action, item, category, price, value, lines) = entry
        waiting = self._waiting[user % _FILES]
        waiting.extend(
            (user, place, ts_ms, event, action, item, category, price, value, len(lines))
        )
        self.clicks += 1
        if len(waiting) >= self._waiting_clicks * _WIDTH:
            self._flush(user % _FILES)

    def close(self) -> None:
        """Ends the adding: now there are buckets."""
        for number in range(_FILES):
            self._flush(number)
        self._buckets = []
        for number in range(_FILES):
            path = self._path(number)
            if path.exists():
                self._buckets += self._split(path, 1)

    def buckets(self) -> Iterator[Ints]:
        """The clicks of each bucket, shape (clicks, columns), by user and then by place."""
        for path in self._buckets:
            rows = _read(path)
            yield rows[np.lexsort((rows[:, PLACE], rows[:, USER]))]

    def change(self, change: Callable[[Ints], Ints]) -> None:
        """Replaces the clicks of each bucket by what a function makes of them."""
        for path, rows in zip(self._buckets, self.buckets(), strict=True):
            change(rows).tofile(path)

    def _flush(self, number: int) -> None:
        waiting = self._waiting[number]
        if waiting:
            with self._path(number).open("ab") as file:
                waiting.tofile(file)
            self._waiting[number] = array("q")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:x}"

    def _split(self, path: Path, digit: int) -> list[Path]:
        """The files of one, or the file itself where it is small enough."""
        clicks = path.stat().st_size // (8 * _WIDTH)
        if clicks <= self._bucket_clicks or digit >= _DIGITS:
            return [path]
        parts = [path.with_name(f"{path.name}{number:x}") for number in range(_FILES)]
        for start in range(0, clicks, self._bucket_clicks):
            rows = _read(path, start, self._bucket_clicks)
            digits = rows[:, USER] >> (digit * _DIGIT_BITS) & (_FILES - 1)
            for number in np.unique(digits):
                with parts[number].open("ab") as file:
                    rows[digits == number].tofile(file)
        path.unlink()
        return [each for part in parts if part.exists() for each in self._split(part, digit + 1)]


def entries_of(rows: Ints) -> Iterator[Entry]:
    """The clicks of a bucket, one by one."""
    for start in range(0, len(rows), _MOST_AT_ONCE):
        yield from starmap(_entry, rows[start : start + _MOST_AT_ONCE].tolist())


def _entry(user: int, place: int, *step: int) -> Entry:
    *numbers, lines = step
    return Entry(user, place, Step._make((*numbers, (_LINE,) * lines)))


def _read(path: Path, start: int = 0, count: int = -1) -> Ints:
    most = -1 if count < 0 else count * _WIDTH
    return np.fromfile(path, np.int64, most, offset=start * 8 * _WIDTH).reshape(-1, _WIDTH)
