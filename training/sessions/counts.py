"""What counting says about the next item: neighbours of a path's last items, repeats, popularity.

Every count is a sum over sessions that fade with age, so that a server could keep it up to date one
session at a time, in memory that the catalogue bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.sessions.covisits import Table, build_table
from training.sessions.log import NO_ITEM, Sessions

#: A neighbour with this share of its path's sum gets a term of log 2.
_FAINT: Final = 1e-3

#: Sessions that an item must have been followed in before its next items count at half.
_DOUBT: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountConfig:
    """How clicks and pairs of clicks are counted, and how a path sums them.

    Attributes:
        neighbours: Of each item.
        window: Clicks of a session that are at most so far apart are a pair.
        decay: Clicks of distance over which a pair's weight falls to 1/e.
        backward: Weight of the earlier click as a neighbour of the later; the reverse weighs 1.
        age_decay: Share of the log over which a session's weight falls to 1/e.
        length: A session of so many clicks weighs `clicks ** -length`.
        rarity: The neighbours of an item with so many clicks weigh `clicks ** -rarity`.
        last: Newest items of a path whose neighbours are summed.
        reaches: Clicks back in a path over which an item's weight falls to 1/e, one a sum.
        spans: The same as `age_decay`, one for each popularity beside that of all time.
        places: A repeat is told apart by how far back it is, up to so many clicks.
    """

    neighbours: int = 64
    window: int = 8
    decay: float = 3.0
    backward: float = 0.7
    age_decay: float = 0.6
    length: float = 0.2
    rarity: float = 0.5
    last: int = 8
    reaches: tuple[float, ...] = (0.7, 2.0, 5.0)
    spans: tuple[float, ...] = (0.3, 0.03)
    places: int = 5

    @property
    def prior(self) -> Tensor:
        """A weight for each feature of `Gathered.features` that is fair on any log.

        Half of the network's logit, and as much of the shares together.
        """
        reaches = len(self.reaches)
        return torch.tensor(
            [0.5]
            + [0.0] * reaches
            + [0.3 / reaches] * reaches
            + [0.0] * 3
            + [0.2]
            + [0.0] * (self.places + len(self.spans) + 3)
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted in sessions.

    Attributes:
        near: Items clicked close to each item, before or after it.
        then: Items clicked right after each item.
        popularity: Shape (rows, 1 + spans), log(1 + clicks), of all time first.
    """

    near: Table
    then: Table
    popularity: Tensor


@dataclass(frozen=True, slots=True)
class Gathered:
    """Candidates for the next item of some paths, each once a path.

    Attributes:
        path: Shape (m,), rising.
        item: Shape (m,), rows of the vocabulary.
        counted: Shape (m,): whether the path's own items or their neighbours name it.
        place: Shape (extra,), where the extra candidates stand among the m.
        features: Shape (m, features).
    """

    path: Tensor
    item: Tensor
    counted: Tensor
    place: Tensor
    features: Tensor


def count(sessions: Sessions, rows: int, config: CountConfig) -> Counts:
    """Counts the clicks and pairs of all sessions."""
    weights = np.exp(-sessions.ages / config.age_decay)
    weights *= np.maximum(sessions.lengths, 1.0) ** -config.length
    forward = np.exp(-np.arange(config.window) / config.decay)
    near = build_table(
        sessions, rows, config.neighbours, forward, config.backward * forward, weights
    )
    then = build_table(sessions, rows, config.neighbours, np.ones(1), np.zeros(1), weights)
    clicks = np.bincount(sessions.items, minlength=rows)
    scale = (np.maximum(clicks, 1) ** -config.rarity).astype(np.float32)
    near = Table(near.ids, near.weights * torch.from_numpy(scale)[:, None])
    ages = sessions.ages[sessions.owners]
    faded = [np.bincount(sessions.items, np.exp(-ages / span), rows) for span in config.spans]
    popularity = np.log1p(np.stack([clicks, *faded], 1)).astype(np.float32)
    return Counts(near, then, torch.from_numpy(popularity))


def gather(
    counts: Counts, config: CountConfig, paths: Tensor, logits: Tensor, extra: Tensor
) -> Gathered:
    """Candidates of paths and what is known about each.

    A path's candidates are its own items, their neighbours, and extra ones. Sums enter the features
    twice: as they are, for how much is known, and as a share of the path's whole, for how clear.

    Args:
        counts: From `count`, with the same settings.
        config: Settings.
        paths: Shape (B, T), padding (0) at the end.
        logits: Shape (B, V), of another model, of which each candidate's is a feature.
        extra: Shape (extra,), indices into `logits.view(-1)`.
    """
    rows = logits.shape[1]
    lengths = (paths != NO_ITEM).sum(1)
    back = lengths[:, None] - 1 - torch.arange(paths.shape[1])  # (B, T), from the newest click
    base = torch.arange(len(paths)) * rows  # where a path's logits begin
    newest = _newest(paths, lengths, config.last)  # (B, last)
    own, step = torch.where(back >= 0)
    at, which, place = torch.where(counts.near.weights[newest] > 0)
    weight = counts.near.weights[newest[at, which], place]
    after, next_place = torch.where(counts.then.weights[newest[:, 0]] > 0)
    then = counts.then.weights[newest[after, 0], next_place]
    keys = [
        base[own] + paths[own, step],
        base[at] + counts.near.ids[newest[at, which], place],
        base[after] + counts.then.ids[newest[after, 0], next_place],
        extra,
    ]
    found, index = torch.unique(torch.cat(keys), return_inverse=True)
    of_own, of_near, of_then, of_extra = index.split([len(each) for each in keys])
    path = found // rows

    decays = torch.exp(-which / torch.tensor(config.reaches)[:, None]) * weight
    sums = torch.zeros(len(decays), len(found)).index_add_(1, of_near, decays)
    totals = torch.zeros(len(decays), len(paths)).index_add_(1, at, decays)
    support = torch.zeros(len(found)).index_add_(0, of_near, torch.ones(len(of_near)))
    follows = torch.zeros(len(found)).index_add_(0, of_then, then)
    followed = torch.zeros(len(paths)).index_add_(0, after, then)
    times = torch.zeros(len(found)).index_add_(0, of_own, torch.ones(len(of_own)))
    latest = torch.full((len(found),), paths.shape[1])
    latest = latest.scatter_reduce(0, of_own, back[own, step], "amin")
    latest = torch.where(times > 0, latest.clamp(max=config.places - 1), -1)
    features = [
        logits.reshape(-1)[found],
        *torch.log1p(10 * sums),
        *_clear(sums, totals[:, path]),
        torch.log1p(support),
        torch.log1p(10 * follows),
        _clear(follows, followed[path]),
        torch.log1p(follows / (followed[path] + _DOUBT) / _FAINT),
        *(latest == torch.arange(config.places)[:, None]).float(),
        (times - 1).clamp(min=0, max=3),
        *counts.popularity[found % rows].T,
        lengths.clamp(min=1).log()[path],
    ]
    counted = (times > 0) | (support > 0) | (follows > 0)
    return Gathered(path, found % rows, counted, of_extra, torch.stack(features, 1))


def _newest(paths: Tensor, lengths: Tensor, most: int) -> Tensor:
    """The last items of paths, the newest first, each once; shape (B, most), 0 where none is."""
    at = lengths[:, None] - 1 - torch.arange(min(most, paths.shape[1]))
    items = torch.where(at >= 0, paths.gather(1, at.clamp(min=0)), NO_ITEM)
    again = (items[:, :, None] == items[:, None, :]).tril(-1).any(2)
    return torch.where(again, NO_ITEM, items)


def _clear(sums: Tensor, totals: Tensor) -> Tensor:
    return torch.log1p(sums / totals.clamp(min=1e-6) / _FAINT)
