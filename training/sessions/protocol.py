"""The protocol of the next-item benchmark: from two files to figures, within a time limit.

1. The newest 4 % of the training sessions are held out. kNN, table and model learn from the rest.
2. On the held-out sessions the model's seven scales and the weight of the kNN are chosen.
3. Table and kNN are made again from all sessions, and the model's training goes on with them.
4. Only then the test prefixes are ranked, each against all items, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clickpath.errors import UsageError
from training.sessions.covisits import Table, TableConfig, build_table, start_of_embeddings
from training.sessions.fit import FitConfig, Fitted, fit, fit_scales, padded
from training.sessions.knn import KnnConfig, SessionKnn, Votes
from training.sessions.log import Floats, Prefixes, Sessions, every_prefix
from training.sessions.net import NetConfig, NextItem

#: Share of the training sessions that choices are made on.
HELD_OUT: Final = 0.04

#: Ranks beyond this count as a miss.
TOP: Final = 20

_WEIGHTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0)
_FLOOR: Final = 1e-3
_VALIDATED: Final = 12_000
_JUDGED: Final = 4_000
_CELLS: Final = 20_000_000

#: Kept back for what is not foreseen; no more than a tenth of the time.
_SPARE_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkConfig:
    """Settings of the whole.

    Attributes:
        minutes: Wall time of the whole, evaluation included.
        refresh: Share of the training time that is spent on all sessions, the newest included.
        refresh_rate: The learning rate of that, as a share of the first.
    """

    minutes: float = 13.0
    refresh: float = 0.2
    refresh_rate: float = 0.4
    net: NetConfig = field(default_factory=NetConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    table: TableConfig = field(default_factory=TableConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)


@dataclass(frozen=True, slots=True)
class Figures:
    """HR@20 and MRR@20 in per cent: of the model alone, of the kNN, of both."""

    model: tuple[float, float]
    knn: tuple[float, float]
    fused: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark found."""

    valid: Figures
    test: Figures
    knn_weight: float
    scales: tuple[float, ...]
    trained: Fitted
    refreshed: Fitted
    seconds: float


def run(
    sessions: Sessions,
    rows: int,
    test: Prefixes,
    config: BenchmarkConfig,
    started_s: float,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Trains from nothing and measures.

    Args:
        sessions: Of the training, oldest first.
        rows: Of the vocabulary, that of no item included.
        test: Prefixes to rank.
        config: Settings.
        started_s: When the time limit began, by `time.monotonic`.
        say: Is told what goes on.

    Raises:
        UsageError: The newest sessions have nothing to choose by.
    """
    deadline_s = started_s + config.minutes * 60
    cut = len(sessions) - max(10, round(len(sessions) * HELD_OUT))
    older, newer = sessions.between(0, cut), sessions.between(cut, len(sessions))
    known = np.zeros(rows, dtype=bool)
    known[older.items] = True
    newer = newer.without(~known[newer.items])
    valid = every_prefix(newer).some(_VALIDATED)
    if not len(valid):
        raise UsageError(f"the newest {len(newer)} sessions share no two items with the others")
    torch.manual_seed(config.fit.seed)
    began_s = monotonic()
    table = build_table(older, rows, config.table)
    start = start_of_embeddings(older, rows, config.net.width, config.fit.seed)
    model = NextItem(config.net, start, table).eval()
    knn = SessionKnn(older, rows, config.knn)
    making_s = monotonic() - began_s
    probe = valid.some(600)
    measure(model, knn, probe.some(100), (0.0,))  # the first calls set up more than they rank
    began_s = monotonic()
    measure(model, knn, probe, (0.0,))
    each_s = 1.2 * (monotonic() - began_s) / max(1, len(probe))
    # The scales' fit costs about as much as a ranking of all held-out prefixes.
    after_s = making_s + each_s * (2 * len(valid) + len(test)) + min(_SPARE_S, 6 * config.minutes)
    left_s = max(5.0, deadline_s - monotonic() - after_s)
    say(
        f"{len(older):,} sessions to learn from, {left_s:.0f} s to do it, {after_s:.0f} s kept back"
    )
    few = valid.some(_JUDGED)

    def judge() -> float:
        score = figures(measure(model, None, few, ()).model)
        say(f"  held-out sessions: model {score[0]:.2f} / {score[1]:.2f}")
        return sum(score)

    share = (1 - config.refresh) * left_s
    trained = fit(model, older, config.table, config.fit, share, _teller(say), judge)
    say(_told("trained", trained))
    fit_scales(model, newer, config.fit)
    ranks = measure(model, knn, valid, _WEIGHTS)
    weight = max(_WEIGHTS, key=lambda each: sum(figures(ranks.fused[each])))
    on_valid = _figures(ranks, weight)
    say(f"held-out sessions: {_line(on_valid)}, kNN weight {weight}")
    knn = SessionKnn(sessions, rows, config.knn)
    _meet(model, build_table(sessions, rows, config.table), ~known)
    again = replace(
        config.fit,
        rate=config.fit.rate * config.refresh_rate,
        seed=config.fit.seed + 1,
        epochs=config.fit.epochs * config.refresh,
        warm_up=0.1,
    )
    left_s = deadline_s - monotonic() - each_s * len(test)
    refreshed = fit(model, sessions, config.table, again, max(1.0, left_s), _teller(say))
    say(_told("refreshed", refreshed))
    on_test = _figures(measure(model, knn, test, (weight,)), weight)
    scales = tuple(round(each, 3) for each in model.scales.exp().tolist())
    return Outcome(on_valid, on_test, weight, scales, trained, refreshed, monotonic() - started_s)


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of each prefix' next item, from 1; infinite where it is not ranked at all."""

    model: Floats
    knn: Floats
    fused: dict[float, Floats]


@torch.inference_mode()
def measure(
    model: NextItem, knn: SessionKnn | None, prefixes: Prefixes, weights: tuple[float, ...]
) -> Ranks:
    """Ranks the next items of prefixes among all items; among equals the worst place counts.

    Fused, an item's logit is the model's plus `weight * log(1 + share / 0.001)`, its share being
    that of the neighbours' votes. Without a kNN only the model is ranked.
    """
    model.eval()
    rows = len(model.bias)
    block = int(np.clip(_CELLS // rows, 8, 512))
    order = np.argsort(prefixes.paths.lengths, kind="stable")  # little padding in a block
    by_model, by_knn = np.zeros(len(prefixes)), np.zeros(len(prefixes))
    fused = {weight: np.zeros(len(prefixes)) for weight in weights}
    for first in range(0, len(order), block):
        chosen = order[first : first + block]
        paths = padded(prefixes.paths, chosen, model.config.steps)
        target = torch.from_numpy(prefixes.following[chosen])
        logits = model(paths, (paths > 0).sum(1).clamp(min=1))
        by_model[chosen] = _ranks(logits, target)
        if knn is None:
            continue
        votes = knn.votes(Sessions.of([prefixes.paths[int(i)].tolist() for i in chosen]))
        voted = torch.zeros_like(logits)
        voted[torch.from_numpy(votes.path), torch.from_numpy(votes.item)] = shares(votes)
        found = voted.gather(1, target[:, None])[:, 0] > 0
        by_knn[chosen] = np.where(found.numpy(), _ranks(voted, target), np.inf)
        bonus = torch.log1p(voted / _FLOOR)
        for weight, ranks in fused.items():
            ranks[chosen] = _ranks(logits + weight * bonus, target)
    return Ranks(by_model, by_knn, fused)


def shares(votes: Votes) -> Tensor:
    """Each vote as a share of its path's votes."""
    total = np.bincount(votes.path, votes.score)
    return torch.from_numpy((votes.score / total[votes.path]).astype(np.float32))


def _ranks(scores: Tensor, target: Tensor) -> NDArray[np.float64]:
    at_least = (scores >= scores.gather(1, target[:, None])).sum(1)
    unknown = target == 0
    return torch.where(unknown, torch.inf, at_least.double()).numpy()


def figures(ranks: Floats) -> tuple[float, float]:
    """HR@20 and MRR@20 in per cent."""
    hit = ranks <= TOP
    return 100 * float(hit.mean()), 100 * float(np.where(hit, 1 / ranks, 0.0).mean())


def _figures(ranks: Ranks, weight: float) -> Figures:
    return Figures(figures(ranks.model), figures(ranks.knn), figures(ranks.fused[weight]))


def _meet(model: NextItem, table: Table, fresh: NDArray[np.bool_]) -> None:
    """Gives the model a new table, and items that it has not met the mean of their neighbours."""
    model.table = table
    rows = torch.from_numpy(np.flatnonzero(fresh))
    rows = rows[(table.weights[rows].sum(1) > 0)]
    near = model.vectors[table.ids[rows].long()] * table.weights[rows][:, :, None]
    model.vectors[rows] = near.sum(1) / near.sum(1).norm(dim=1, keepdim=True).clamp(min=1e-6)


def _teller(say: Callable[[str], None]) -> Callable[[float, float], None]:
    """Says how far a training is, each tenth of it."""
    told = [0.0]

    def tell(done: float, loss: float) -> None:
        if done >= told[0] + 0.1:
            told[0] = done
            say(f"  {100 * done:3.0f} %, loss {loss:.3f}")

    return tell


def _told(what: str, fitted: Fitted) -> str:
    return (
        f"{what} {fitted.epochs:.1f} epochs, {fitted.steps} steps in {fitted.seconds:.0f} s, "
        f"loss {fitted.loss:.3f}"
    )


def _line(measured: Figures) -> str:
    return ", ".join(
        f"{name} {hit:.2f} / {reciprocal:.2f}"
        for name, (hit, reciprocal) in (
            ("model", measured.model),
            ("kNN", measured.knn),
            ("fused", measured.fused),
        )
    )
