"""The session kNN: sessions that share items with a path vote for what else they hold.

After STAN (Garg et al., "Sequence and Time Aware Neighborhood for Session-based Recommendations",
2019), with three changes that validation asked for: rare items count more, items of the path itself
are voted for too, and long neighbours are punished less than a cosine does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.sessions.log import Floats, Ints, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnConfig:
    """How neighbours are found and how they vote.

    Attributes:
        neighbours: Sessions that vote for a path.
        postings: Newest sessions of an item that are looked at.
        path_decay: Clicks back in the path over which an item's weight falls to 1/e.
        age_decay: Share of the log over which a neighbour's weight falls to 1/e.
        vote_decay: Clicks from the last common item over which a vote falls to 1/e.
        backward: Weight of items before the last common item; those after it weigh 1.
        same: Weight of the last common item itself.
        rarity: An item that so many sessions have weighs `sessions ** -rarity`.
        length: A neighbour of so many clicks weighs `clicks ** -length`.
        popularity: A vote for an item with so many clicks weighs `clicks ** -popularity`.
    """

    neighbours: int = 200
    postings: int = 5000
    path_decay: float = 2.0
    age_decay: float = 0.8
    vote_decay: float = 3.0
    backward: float = 0.7
    same: float = 3.0
    rarity: float = 0.5
    length: float = 0.2
    popularity: float = 0.1


@dataclass(frozen=True, slots=True)
class Votes:
    """Scores of items for paths; what is not listed has none.

    Attributes:
        path: Shape (votes,), index of the path, rising.
        item: Shape (votes,), row of the vocabulary.
        score: Shape (votes,), above 0.
    """

    path: Ints
    item: Ints
    score: Floats


class SessionKnn:
    """All training sessions, and for each item those that have it, newest first."""

    def __init__(self, sessions: Sessions, rows: int, config: KnnConfig | None = None) -> None:
        self.config = config = config or KnnConfig()
        self._sessions = sessions
        self._rows = rows
        owners = sessions.owners
        self._position = np.arange(len(owners)) - sessions.starts[owners]
        order = np.lexsort((-self._position, -owners, sessions.items))
        pair = sessions.items[order] * len(sessions) + owners[order]
        order = order[_firsts(pair)]  # one entry for an item and a session: its last click
        self._posted_session = owners[order]
        self._posted_position = self._position[order]
        self._posted_from = np.searchsorted(sessions.items[order], np.arange(rows + 1))
        having = np.diff(self._posted_from)
        self._posted = np.minimum(having, config.postings)
        self._item_weight = np.maximum(having, 1) ** -config.rarity
        self._session_weight = (np.maximum(sessions.lengths, 1) ** -config.length) * np.exp(
            -sessions.ages / config.age_decay
        )
        clicks = np.bincount(sessions.items, minlength=rows)
        self._vote_weight = (clicks + 1.0) ** -config.popularity

    def votes(self, paths: Sessions) -> Votes:
        """What the neighbours of each path vote for."""
        path, session, weight, anchor = self._neighbours(paths)
        entry, click = _spread(self._sessions.starts[session], self._sessions.lengths[session])
        item = self._sessions.items[click]
        score = (
            weight[entry]
            * self._by_distance(self._position[click] - anchor[entry])
            * self._vote_weight[item]
        )
        pair, place = np.unique(path[entry] * self._rows + item, return_inverse=True)
        total = np.bincount(place, score, len(pair)).astype(np.float64)
        return Votes(pair // self._rows, pair % self._rows, total)

    def _neighbours(self, paths: Sessions) -> tuple[Ints, Ints, Floats, Ints]:
        """Path, session, similarity and place of the last common item, for each neighbour."""
        path, item = paths.owners, paths.items
        back = paths.starts[path + 1] - 1 - np.arange(len(item))
        order = np.lexsort((back, item, path))
        order = order[_firsts(path[order] * self._rows + item[order])]
        path, item, back = path[order], item[order], back[order]
        entry, posting = _spread(self._posted_from[item], self._posted[item])
        weight = (np.exp(-back / self.config.path_decay) * self._item_weight[item])[entry]
        pair = path[entry] * len(self._sessions) + self._posted_session[posting]
        order = np.lexsort((back[entry], pair))
        first = np.flatnonzero(_firsts(pair[order]))
        if not len(first):
            none = np.zeros(0, dtype=np.int64)
            return none, none, np.zeros(0), none
        path, session = np.divmod(pair[order][first], len(self._sessions))
        similarity = np.add.reduceat(weight[order], first) * self._session_weight[session]
        anchor = self._posted_position[posting[order][first]]
        order = np.lexsort((-similarity, path))
        place = np.arange(len(order)) - np.searchsorted(path[order], path[order])
        best = order[place < self.config.neighbours]
        return path[best], session[best], similarity[best], anchor[best]

    def _by_distance(self, distance: Ints) -> Floats:
        """Weight of a vote by how many clicks after the last common item it stands."""
        config = self.config
        fading = np.exp(-(np.abs(distance) - 1) / config.vote_decay)
        return np.where(
            distance == 0, config.same, np.where(distance > 0, fading, config.backward * fading)
        )


def _firsts(ordered: Ints) -> NDArray[np.bool_]:
    """Where a value of an ordered array stands for the first time."""
    return np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]


def _spread(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """For ranges `starts[i] + (0 ... counts[i] - 1)`: the i of each number, and the numbers."""
    entry = np.repeat(np.arange(len(starts)), counts)
    before = np.cumsum(counts) - counts
    return entry, starts[entry] + np.arange(len(entry)) - before[entry]
