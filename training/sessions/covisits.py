"""What is clicked together: tables of neighbours for the model, and a start for its embeddings.

Both count pairs of clicks within a window of one session. A table row lists an item's strongest
neighbours; the sum of the rows of a path's last items ranks almost as well as a session kNN, and a
model with that sum among its inputs only has to learn when to trust it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from training.sessions.log import Floats, Ints, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class TableConfig:
    """How pairs are counted.

    Attributes:
        neighbours: Entries of a row.
        window: Clicks of a session that are at most so far apart are a pair.
        decay: Clicks of distance over which a pair's weight falls to 1/e.
        backward: Weight of the earlier click as a neighbour of the later; the reverse weighs 1.
        age_decay: Share of the log over which a session's weight falls to 1/e.
        length: A session of so many clicks weighs `clicks ** -length`.
        rarity: The row of an item with so many clicks is scaled by `clicks ** -rarity`.
    """

    neighbours: int = 64
    window: int = 8
    decay: float = 3.0
    backward: float = 0.7
    age_decay: float = 0.8
    length: float = 0.2
    rarity: float = 0.5


@dataclass(frozen=True, slots=True)
class Table:
    """Neighbours of each item.

    Attributes:
        ids: Shape (rows, neighbours), int32, rows of the vocabulary, strongest first; 0 is none.
        weights: Shape (rows, neighbours), summed over sessions.
        total: Shape (rows,), the sum of a row.
        scale: Shape (rows,), the factor of a row.
        forward: Shape (window + 2,), weight of a pair by distance; 0 at distance 0 and beyond.
        backward: The same for the earlier click.
    """

    ids: Tensor
    weights: Tensor
    total: Tensor
    scale: Tensor
    forward: Tensor
    backward: Tensor


def session_weights(sessions: Sessions, config: TableConfig) -> Floats:
    """What a pair of each session counts, shape (sessions,)."""
    by_length: Floats = np.maximum(sessions.lengths, 1) ** -config.length
    return by_length * np.exp(-sessions.ages / config.age_decay)


def build_table(sessions: Sessions, rows: int, config: TableConfig) -> Table:
    """Counts all pairs of all sessions and keeps each item's strongest neighbours."""
    by_distance = np.exp(-np.arange(config.window) / config.decay)
    forward = np.concatenate([[0.0], by_distance, [0.0]])
    backward = config.backward * forward
    counts = _pairs(
        sessions, rows, forward[1:-1], backward[1:-1], session_weights(sessions, config)
    )
    row = np.repeat(np.arange(rows), np.diff(counts.indptr))
    order = np.lexsort((-counts.data, row))
    place = np.arange(len(row)) - counts.indptr[row]
    kept = place < config.neighbours
    ids = np.zeros((rows, config.neighbours), dtype=np.int32)
    weights = np.zeros((rows, config.neighbours), dtype=np.float32)
    ids[row[kept], place[kept]] = counts.indices[order][kept]
    weights[row[kept], place[kept]] = counts.data[order][kept]
    clicks = np.maximum(np.bincount(sessions.items, minlength=rows), 1)
    return Table(
        torch.from_numpy(ids),
        torch.from_numpy(weights),
        torch.from_numpy(weights.sum(1)),
        torch.from_numpy((clicks**-config.rarity).astype(np.float32)),
        torch.from_numpy(forward.astype(np.float32)),
        torch.from_numpy(backward.astype(np.float32)),
    )


def start_of_embeddings(sessions: Sessions, rows: int, width: int, seed: int) -> Tensor:
    """Unit vectors from a truncated SVD of positive pointwise mutual information.

    The context counts are raised to 0.75 and the singular values to 0.5 (Levy et al., "Improving
    Distributional Similarity with Lessons Learned from Word Embeddings", 2015). Items without any
    neighbour get a random vector. Shape (rows, width).
    """
    near = 1 / np.arange(1, 4)
    counts = _pairs(sessions, rows, near, near, np.ones(len(sessions))).tocoo()
    of_item = np.asarray(counts.sum(1)).ravel()
    context = of_item**0.75
    context /= context.sum()
    information = np.log(counts.data / (of_item[counts.row] * context[counts.col]))
    matrix = sparse.csr_matrix(
        (np.maximum(information, 0), (counts.row, counts.col)), shape=counts.shape
    )
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, width)) / math.sqrt(width)
    rank = min(width, rows - 1)
    left, values, _ = randomized_svd(matrix, rank, n_iter=3, random_state=seed)
    found = left * np.sqrt(values)
    known = np.linalg.norm(found, axis=1) > 1e-6
    vectors[known] = 0
    vectors[known, :rank] = found[known]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(vectors.astype(np.float32))


def _pairs(
    sessions: Sessions, rows: int, forward: Floats, backward: Floats, weights: Floats
) -> sparse.csr_matrix:
    """Weighted pairs of different items; row: the item, column: its neighbour.

    Args:
        sessions: Where the clicks are.
        rows: Of the vocabulary.
        forward: Weight of the later click as a neighbour of the earlier, by distance from 1 on.
        backward: Weight of the earlier as a neighbour of the later.
        weights: Of each session.
    """
    items, owners = sessions.items, sessions.owners
    total = sparse.csr_matrix((rows, rows))
    for distance, (after, before) in enumerate(zip(forward, backward, strict=True), 1):
        pair: NDArray[np.bool_] = (owners[distance:] == owners[:-distance]) & (
            items[distance:] != items[:-distance]
        )
        first, second = items[:-distance][pair], items[distance:][pair]
        weight = weights[owners[distance:][pair]]
        values = np.concatenate([after * weight, before * weight])
        places: tuple[Ints, Ints] = (
            np.concatenate([first, second]),
            np.concatenate([second, first]),
        )
        total = total + sparse.coo_matrix((values, places), shape=(rows, rows)).tocsr()
    return total
