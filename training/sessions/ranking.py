"""Ranks of right answers: of the network, of the served model, of the kNN, and fused.

Only what is among a path's candidates can be ranked high; what is not counts as beyond all ranks.
Among equals the worst place counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.sessions.fit import padded
from training.sessions.knn import SessionKnn, Votes
from training.sessions.log import NO_ITEM, Floats, Ints, Prefixes, Sessions
from training.sessions.net import PathNet
from training.sessions.ranker import Candidates, Mixer, Question, Ranker

#: Ranks beyond this count as a miss.
TOP: Final = 20

_FLOOR: Final = 1e-3
_BLOCK: Final = 256
_CELLS: Final = 20_000_000

#: Items for which a path's neighbours vote most; they become candidates.
_VOTED: Final = 80


@dataclass(frozen=True, slots=True)
class Block:
    """Some prefixes and their candidates, the kNN's among them.

    Attributes:
        candidates: Of the prefixes.
        share: Shape (m,), of the votes of a path's neighbours.
        right: Shape (paths,), where the next item stands among the candidates; -1 if it does not.
        knn: Shape (paths,), rank of the next item among the votes, from 1; may be infinite.
    """

    candidates: Candidates
    share: Tensor
    right: Tensor
    knn: Floats


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of each prefix' next item, from 1; infinite where it is not ranked at all.

    `fused` has those for each weight of the kNN.
    """

    model: Floats
    knn: Floats
    fused: dict[float, Floats]


@torch.no_grad()
def ask(
    ranker: Ranker, knn: SessionKnn, prefixes: Prefixes, shuffle: int | None = None
) -> Iterator[Block]:
    """The candidates of prefixes, some prefixes at a time.

    Args:
        ranker: Names candidates.
        knn: Names more.
        prefixes: In any order.
        shuffle: Seed of the order in which they are asked; None: short paths first, so that little
            is padding.
    """
    ranker.eval()
    rows = len(ranker.net.bias)
    most = _most(rows)
    if shuffle is None:
        order = np.argsort(prefixes.paths.lengths, kind="stable")
    else:  # to learn from: blocks alike, and about forty of them at least
        order = np.random.default_rng(shuffle).permutation(len(prefixes))
        most = min(most, max(8, len(prefixes) // 40))
    for first in range(0, len(order), most):
        chosen = order[first : first + most]
        following = prefixes.following[chosen]
        paths = padded(prefixes.paths, chosen, ranker.net.config.steps)
        votes = knn.votes(Sessions.of([prefixes.paths[int(i)].tolist() for i in chosen]))
        voted = torch.from_numpy(votes.path * rows + votes.item)  # rising
        strongest = torch.from_numpy(_strongest(votes, _VOTED))
        found = ranker.candidates(paths, voted[strongest])
        goal = torch.from_numpy(np.arange(len(chosen)) * rows + following)
        yield Block(
            found,
            _looked_up(voted, _shares(votes), found.path * rows + found.item),
            _places(found.path * rows + found.item, goal, goal % rows != NO_ITEM),
            _ranks_of_votes(votes, following),
        )


def question(block: Block) -> Question:
    """What a mixer learns from: the model's own candidates of paths whose next item is one."""
    found = block.candidates
    mine = (block.right >= 0) & found.own[block.right]
    kept = mine[found.path] & found.own
    place = kept.cumsum(0) - 1
    return Question(
        (mine.cumsum(0) - 1)[found.path[kept]], place[block.right[mine]], found.features[kept]
    )


@torch.no_grad()
def rank(block: Block, mixer: Mixer, weights: tuple[float, ...]) -> Ranks:
    """Ranks some prefixes' next items.

    Fused, a candidate's score is the mixer's plus `weight * log(1 + share / 0.001)`, its share
    being that of the neighbours' votes; without, only the model's own candidates are ranked.
    """
    found = block.candidates
    scores = mixer(found.features)
    bonus = torch.log1p(block.share / _FLOOR)
    return Ranks(
        _ranks(torch.where(found.own, scores, -torch.inf), block),
        block.knn,
        {weight: _ranks(scores + weight * bonus, block) for weight in weights},
    )


def together(parts: Iterable[Ranks]) -> Ranks:
    """Ranks of several parts as one."""
    every = list(parts)
    return Ranks(
        np.concatenate([part.model for part in every]),
        np.concatenate([part.knn for part in every]),
        {
            weight: np.concatenate([part.fused[weight] for part in every])
            for weight in every[0].fused
        },
    )


@torch.inference_mode()
def network_ranks(net: PathNet, prefixes: Prefixes) -> Floats:
    """Ranks by the network alone, each next item among all items."""
    net.eval()
    ranks = np.zeros(len(prefixes))
    order = np.argsort(prefixes.paths.lengths, kind="stable")
    most = _most(len(net.bias))
    for first in range(0, len(order), most):
        chosen = order[first : first + most]
        paths = padded(prefixes.paths, chosen, net.config.steps)
        target = torch.from_numpy(prefixes.following[chosen])
        logits = net(paths, (paths > 0).sum(1).clamp(min=1))
        at_least = (logits >= logits.gather(1, target[:, None])).sum(1).double()
        ranks[chosen] = torch.where(target == NO_ITEM, torch.inf, at_least).numpy()
    return ranks


def figures(ranks: Floats) -> tuple[float, float]:
    """HR@20 and MRR@20 in per cent."""
    hit = ranks <= TOP
    return 100 * float(hit.mean()), 100 * float(np.where(hit, 1 / ranks, 0.0).mean())


def _most(rows: int) -> int:
    """Prefixes at a time, so that memory is bounded."""
    return int(np.clip(_CELLS // rows, 8, _BLOCK))


def _ranks(scores: Tensor, block: Block) -> Floats:
    path, right = block.candidates.path, block.right
    goal = torch.where(right >= 0, scores[right], torch.inf)
    at_least = torch.zeros(len(right)).index_add_(0, path, (scores >= goal[path]).float())
    lost = (right < 0) | (goal == -torch.inf)
    ranks: Floats = torch.where(lost, torch.inf, at_least).double().numpy()
    return ranks


def _strongest(votes: Votes, most: int) -> Ints:
    """Indices of each path's strongest votes, rising."""
    order = np.lexsort((-votes.score, votes.path))
    place = np.arange(len(order)) - np.searchsorted(votes.path[order], votes.path[order])
    return np.sort(order[place < most])


def _shares(votes: Votes) -> Tensor:
    """Each vote as a share of its path's votes."""
    total = np.bincount(votes.path, votes.score)
    return torch.from_numpy((votes.score / total[votes.path]).astype(np.float32))


def _looked_up(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """The values of wanted keys, 0 for those that are not among the rising keys."""
    if not len(keys):
        return torch.zeros(len(wanted))
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[at] == wanted, values[at], 0.0)


def _places(keys: Tensor, wanted: Tensor, asked: Tensor) -> Tensor:
    """Where wanted keys stand among the rising keys; -1 where they do not, or are not asked."""
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where((keys[at] == wanted) & asked, at, -1)


def _ranks_of_votes(votes: Votes, following: Ints) -> Floats:
    """Rank of each path's next item among its votes, infinite where there is none for it."""
    goal = np.full(len(following), np.inf)
    hit = votes.item == following[votes.path]
    goal[votes.path[hit]] = votes.score[hit]
    at_least = np.bincount(votes.path, votes.score >= goal[votes.path], len(following))
    return np.where(np.isfinite(goal), at_least, np.inf)
