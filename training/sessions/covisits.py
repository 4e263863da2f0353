"""What is clicked together, counted over pairs of clicks within a window of one session."""

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


@dataclass(frozen=True, slots=True)
class Table:
    """The strongest neighbours of each item.

    Attributes:
        ids: Shape (rows, neighbours), int32, rows of the vocabulary, strongest first; 0 is none.
        weights: Shape (rows, neighbours), summed over sessions; 0 where there is none.
    """

    ids: Tensor
    weights: Tensor


def build_table(
    sessions: Sessions,
    rows: int,
    neighbours: int,
    forward: Floats,
    backward: Floats,
    weights: Floats,
) -> Table:
    """Counts all pairs of all sessions and keeps each item's strongest neighbours.

    Args:
        sessions: Where the clicks are.
        rows: Of the vocabulary.
        neighbours: Most that an item keeps.
        forward: Weight of the later click as a neighbour of the earlier, by distance from 1 on.
        backward: Weight of the earlier as a neighbour of the later.
        weights: Of each session.
    """
    counts = _pairs(sessions, rows, forward, backward, weights)
    row = np.repeat(np.arange(rows), np.diff(counts.indptr))
    order = np.lexsort((-counts.data, row))
    place = np.arange(len(row)) - counts.indptr[row]
    kept = (place < neighbours) & (counts.data[order] > 0)
    ids = np.zeros((rows, neighbours), dtype=np.int32)
    strengths = np.zeros((rows, neighbours), dtype=np.float32)
    ids[row[kept], place[kept]] = counts.indices[order][kept]
    strengths[row[kept], place[kept]] = counts.data[order][kept]
    return Table(torch.from_numpy(ids), torch.from_numpy(strengths))


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
    """Weighted pairs of different items; row: the item, column: its neighbour."""
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
