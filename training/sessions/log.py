"""Logs of sessions: item ids, one session a line, oldest first; and prefixes with what came next.

Ids are any text without blanks. Inside they are rows of a vocabulary; row 0 is for no item.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clickpath.errors import UsageError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Clicks of a path that are kept, the newest.
LONGEST: Final = 50

#: The row of padding and of items that no training session has.
NO_ITEM: Final = 0


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions one after another in one array, oldest first.

    Attributes:
        items: Shape (clicks,), rows of the vocabulary.
        starts: Shape (sessions + 1,): session i is `items[starts[i]:starts[i + 1]]`.
    """

    items: Ints
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Ints:
        return self.items[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> Ints:
        """Clicks of each session, shape (sessions,)."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Ints:
        """The session of each click, shape (clicks,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def ages(self) -> Floats:
        """From 0, the newest session, to almost 1, the oldest; shape (sessions,)."""
        return np.arange(len(self))[::-1] / max(1, len(self))

    def between(self, first: int, last: int) -> Sessions:
        """Sessions `first` to `last` (exclusive)."""
        starts = self.starts[first : last + 1]
        return Sessions(self.items[starts[0] : starts[-1]], starts - starts[0])

    def without(self, unwanted: NDArray[np.bool_]) -> Sessions:
        """The sessions less some clicks, shape (clicks,)."""
        kept = np.concatenate([[0], np.cumsum(~unwanted)])
        return Sessions(self.items[~unwanted], kept[self.starts])

    @staticmethod
    def of(sessions: Sequence[Sequence[int]]) -> Sessions:
        """From a list for each session."""
        starts = np.concatenate([[0], np.cumsum([len(each) for each in sessions])])
        flat = [row for each in sessions for row in each]
        return Sessions(np.array(flat, dtype=np.int64), starts.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Beginnings of sessions, with the item that came next.

    Attributes:
        paths: What was clicked so far; a path is empty when the training has none of its items.
        following: Shape (prefixes,): the next item, NO_ITEM where the training has not seen it.
    """

    paths: Sessions
    following: Ints

    def __len__(self) -> int:
        return len(self.following)

    def some(self, most: int) -> Prefixes:
        """At most so many, evenly spread."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(int))
        return Prefixes(
            Sessions.of([self.paths[i].tolist() for i in chosen]), self.following[chosen]
        )


def every_prefix(sessions: Sessions) -> Prefixes:
    """Each click but the first of a session, with what came before it."""
    paths, following = [], []
    for index in range(len(sessions)):
        session = sessions[index].tolist()
        for end in range(1, len(session)):
            paths.append(session[max(0, end - LONGEST) : end])
            following.append(session[end])
    return Prefixes(Sessions.of(paths), np.array(following, dtype=np.int64))


def read_sessions(path: Path) -> tuple[Sessions, dict[str, int]]:
    """The sessions of a file and the vocabulary: the row of each item id.

    Raises:
        UsageError: The file cannot be read, or has fewer than 50 sessions of two items or more.
    """
    rows: dict[str, int] = {}
    sessions = []
    for line in _lines(path):
        session = [rows.setdefault(item, len(rows) + 1) for item in line.split()]
        if len(session) > 1:
            sessions.append(session)
    if len(sessions) < 50:
        raise UsageError(
            f"{path} has {len(sessions)} sessions of two items or more, must be at least 50"
        )
    return Sessions.of(sessions), rows


def read_prefixes(path: Path, rows: dict[str, int]) -> Prefixes:
    """The prefixes of a file: ids, a tab, the id of the next item.

    Items that the vocabulary has not are left out of the paths.

    Raises:
        UsageError: The file cannot be read, is empty, or a line has no tab.
    """
    paths, following = [], []
    for number, line in enumerate(_lines(path), 1):
        before, tab, after = line.rstrip("\n").rpartition("\t")
        if not tab or not after.strip():
            raise UsageError(f"{path}, line {number}: no tab and next item in {line[:60]!r}")
        paths.append([rows[item] for item in before.split() if item in rows][-LONGEST:])
        following.append(rows.get(after.strip(), NO_ITEM))
    if not paths:
        raise UsageError(f"{path} has no prefixes")
    return Prefixes(Sessions.of(paths), np.array(following, dtype=np.int64))


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, compressed by gzip or not, that are not blank."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        opened = gzip.open if packed else open
        with opened(path, "rt", encoding="utf-8") as text:
            for line in text:
                if line.strip():
                    yield line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
