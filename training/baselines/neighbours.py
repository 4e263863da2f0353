"""Session k-NN: what sessions like this one went on to, for categories and items.

Each training session is a set of tokens. Those that share most with the session asked about, its
newest tokens counting most, lend it their tokens, by how much they share (Jannach and Ludewig,
"When recurrent neural networks meet the neighborhood for session-based recommendation", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import sparse

from clickpath.encoding import FEATURE_NAMES
from serving.outputs import CANDIDATES
from training.dataset import Batch, Ints, Part
from training.metrics import Floats
from training.said import Said, joined

_FEATURE: Final = {
    "next_category": FEATURE_NAMES.index("category"),
    "next_item": FEATURE_NAMES.index("item"),
}
_POSITION: Final = FEATURE_NAMES.index("session_position")
_BATCH: Final = 256

#: Sessions that lend their tokens, and most that are remembered (the newest ones).
_NEIGHBOURS: Final = 100
_SESSIONS: Final = 50_000

#: A token weighs this much less for each step that it lies back.
_FADE: Final = 0.8


@dataclass(frozen=True, slots=True)
class _Memory:
    """The sessions of one kind of token.

    Attributes:
        tokens: Known hashes, rising.
        sessions: Sparse, shape (sessions, tokens), rows of length 1.
    """

    tokens: Ints
    sessions: Any


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Remembered sessions, by head."""

    memories: dict[str, _Memory]

    def predict(self, part: Part) -> Said:
        """What it says after the last step of each path, by head."""
        pieces = []
        for batch in part.batches(_BATCH):
            said: dict[str, Any] = {}
            for head, memory in self.memories.items():
                said[f"{head}_token"], said[head] = _asked(memory, batch, _FEATURE[head])
            pieces.append(said)
        return joined(pieces)


def neighbours(part: Part) -> Neighbours:
    """Remembers the sessions of the training part."""
    return Neighbours({head: _memory(part, _FEATURE[head]) for head in _FEATURE if part.has(head)})


def _memory(part: Part, feature: int) -> _Memory:
    rows, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    count = 0
    for batch in part.batches(_BATCH):
        real = batch.paths[:, 0] != 0
        begins = real & ((batch.paths[:, _POSITION] == 1) | (np.arange(real.shape[1]) == 0))
        session = count - 1 + np.cumsum(begins).reshape(begins.shape)
        count += int(begins.sum())
        token = batch.paths[:, feature]
        kept = real & (token != 0)
        rows.append(session[kept])
        hashes.append(token[kept])
    row, (tokens, column) = (
        np.concatenate(rows),
        np.unique(np.concatenate(hashes), return_inverse=True),
    )
    newest = row >= count - _SESSIONS
    place = row[newest] - max(0, count - _SESSIONS)
    shape = (min(count, _SESSIONS), len(tokens))
    found = sparse.csr_matrix((np.ones(len(place)), (place, column[newest])), shape=shape)
    found.data[:] = 1.0  # a set: what came twice counts once
    length = np.sqrt(np.diff(found.indptr).clip(min=1))
    return _Memory(tokens, sparse.diags_array(1 / length).tocsr() @ found)


def _asked(memory: _Memory, batch: Batch, feature: int) -> tuple[Ints, Floats]:
    """The likeliest tokens after the last step of each path, and their shares."""
    rows, columns, weights = _session(memory, batch, feature)
    shape = (len(batch), len(memory.tokens))
    asked = sparse.csr_matrix((weights, (rows, columns)), shape=shape)
    alike = (asked @ memory.sessions.T).toarray()  # (n, sessions)
    most = min(_NEIGHBOURS, alike.shape[1])
    nearest = np.argpartition(-alike, most - 1, axis=1)[:, :most]
    weight = np.take_along_axis(alike, nearest, axis=1)
    row = np.repeat(np.arange(len(batch)), most)
    lenders = sparse.csr_matrix((weight.ravel(), (row, nearest.ravel())), shape=alike.shape)
    score = (lenders @ memory.sessions).toarray()  # (n, tokens)
    size = min(CANDIDATES, score.shape[1])
    best = np.argsort(-score, axis=1, kind="stable")[:, :size]
    lent = np.take_along_axis(score, best, axis=1)
    total = score.sum(axis=1, keepdims=True)
    share = np.divide(lent, total, out=np.zeros_like(lent), where=total > 0)
    return np.where(lent > 0, memory.tokens[best], 0), share


def _session(memory: _Memory, batch: Batch, feature: int) -> tuple[Ints, Ints, Floats]:
    """The known tokens of the last session of each path: row, column and weight."""
    last = batch.lengths[:, None] - 1
    back = last - np.arange(batch.paths.shape[2])  # (n, T)
    in_session = batch.paths[np.arange(len(batch)), _POSITION, batch.lengths - 1][:, None]
    token = batch.paths[:, feature]
    column = np.searchsorted(memory.tokens, token).clip(max=len(memory.tokens) - 1)
    kept = (back >= 0) & (back < in_session) & (token != 0) & (memory.tokens[column] == token)
    return np.nonzero(kept)[0], column[kept], _FADE ** back[kept].astype(np.float64)
