"""The protocol of the next-item benchmark: from two files to figures, within a time limit.

1. The newest 4 % of the training sessions are held out. Network, counts and kNN learn from the
   rest.
2. On the held-out sessions the mixer is fitted and the weight of the kNN chosen. Their figures come
   from two halves, each ranked by what was fitted on the other.
3. Counts and kNN are made again from all sessions; the network stays as it is, and an item that it
   has not met gets the mean of its neighbours' vectors.
4. Only then the test prefixes are ranked, each against all items, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from clickpath.errors import UsageError
from training.sessions.counts import CountConfig, Counts, count
from training.sessions.covisits import start_of_embeddings
from training.sessions.fit import FitConfig, Fitted, fit
from training.sessions.knn import KnnConfig, SessionKnn
from training.sessions.log import Prefixes, Sessions, every_prefix
from training.sessions.net import NetConfig, PathNet
from training.sessions.ranker import Mixer, MixerConfig, Ranker, fit_mixer
from training.sessions.ranking import Block, ask, figures, network_ranks, question, rank, together

#: Share of the training sessions that choices are made on.
HELD_OUT: Final = 0.04

#: Fewer sessions than this are held out only where they would be more than a fifth.
_FEWEST: Final = 200

_WEIGHTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
_VALIDATED: Final = 24_000
_JUDGED: Final = 4_000

#: Kept back for what is not foreseen; no more than a tenth of the time.
_SPARE_S: Final = 20.0

#: Most of the time left that is kept back for what comes after the training.
_LAST: Final = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkConfig:
    """Settings of the whole.

    Attributes:
        minutes: Wall time of the whole, evaluation included.
    """

    minutes: float = 13.0
    net: NetConfig = field(default_factory=NetConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    counting: CountConfig = field(default_factory=CountConfig)
    mixer: MixerConfig = field(default_factory=MixerConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)


@dataclass(frozen=True, slots=True)
class Figures:
    """HR@20 and MRR@20 in per cent: of the model alone, of the kNN, of both."""

    model: tuple[float, float]
    knn: tuple[float, float]
    fused: tuple[float, float]

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {hit:.2f} / {reciprocal:.2f}"
            for name, (hit, reciprocal) in (
                ("model", self.model),
                ("kNN", self.knn),
                ("fused", self.fused),
            )
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark found."""

    valid: Figures
    test: Figures
    knn_weight: float
    trained: Fitted
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
    cut = len(sessions) - max(round(len(sessions) * HELD_OUT), min(len(sessions) // 5, _FEWEST))
    older, newer = sessions.between(0, cut), sessions.between(cut, len(sessions))
    known = np.zeros(rows, dtype=bool)
    known[older.items] = True
    newer = newer.without(~known[newer.items])
    halves = _halves(newer)
    asked = sum(len(half) for half in halves)
    if not all(len(half) for half in halves):
        raise UsageError(f"the newest {len(newer)} sessions share no two items with the others")

    torch.manual_seed(config.fit.seed)
    began_s = monotonic()
    start = start_of_embeddings(older, rows, config.net.width, config.fit.seed)
    net = PathNet(config.net, start).eval()
    ranker = Ranker(net, count(older, rows, config.counting), config.counting, config.mixer)
    knn = SessionKnn(older, rows, config.knn)
    making_s = monotonic() - began_s
    each_s = _seconds_a_prefix(ranker, knn, halves[0])
    # Fitting three mixers costs about as much as asking what they are fitted on.
    after_s = making_s + each_s * (2 * asked + len(test)) + min(_SPARE_S, 6 * config.minutes)
    left_s = deadline_s - monotonic()
    after_s = min(after_s, _LAST * left_s)
    left_s = max(5.0, left_s - after_s)
    say(
        f"{len(older):,} sessions to learn from, {left_s:.0f} s to do it, {after_s:.0f} s kept back"
    )
    few = every_prefix(newer).some(_JUDGED)

    def judge() -> float:
        score = figures(network_ranks(net, few))
        say(f"  held-out sessions: network {score[0]:.2f} / {score[1]:.2f}")
        return sum(score)

    trained = fit(net, older, config.fit, left_s, _teller(say), judge)
    say(
        f"trained {trained.epochs:.1f} epochs, {trained.steps} steps in {trained.seconds:.0f} s, "
        f"loss {trained.loss:.3f}"
    )
    on_valid, weight = _mix(ranker, knn, halves, config)
    say(f"held-out sessions: {on_valid}, kNN weight {weight}")

    on_test = _tested(ranker, sessions, ~known, test, weight, config)
    return Outcome(on_valid, on_test, weight, trained, monotonic() - started_s)


def _halves(sessions: Sessions) -> tuple[Prefixes, Prefixes]:
    """Prefixes of every other session, and of those between them."""
    every = range(len(sessions))
    first, second = (
        every_prefix(Sessions.of([sessions[i].tolist() for i in every[side::2]])).some(
            _VALIDATED // 2
        )
        for side in (0, 1)
    )
    return first, second


def _seconds_a_prefix(ranker: Ranker, knn: SessionKnn, prefixes: Prefixes) -> float:
    """What ranking a prefix costs, by the fastest of some probes: the slow ones tell of others."""
    probe = prefixes.some(300)
    fastest = np.inf
    for _ in range(5):  # the first calls set up more than they rank
        began_s = monotonic()
        together(rank(each, ranker.mixer, (0.0,)) for each in ask(ranker, knn, probe))
        fastest = min(fastest, monotonic() - began_s)
    return 1.4 * fastest / len(probe)


def _mix(
    ranker: Ranker, knn: SessionKnn, halves: tuple[Prefixes, Prefixes], config: BenchmarkConfig
) -> tuple[Figures, float]:
    """Fits the mixer and chooses the kNN's weight; the figures come from crossed halves."""
    seed = config.fit.seed
    blocks: list[list[Block]] = [list(ask(ranker, knn, half, seed)) for half in halves]
    questions = [[question(each) for each in half] for half in blocks]
    ranks = []
    for fitted, measured in ((questions[0], blocks[1]), (questions[1], blocks[0])):
        mixer = Mixer(config.counting.prior, config.mixer)
        fit_mixer(mixer, fitted, config.mixer, seed)
        ranks += [rank(each, mixer, _WEIGHTS) for each in measured]
    both = together(ranks)
    weight = max(_WEIGHTS, key=lambda each: sum(figures(both.fused[each])))
    fit_mixer(ranker.mixer, questions[0] + questions[1], config.mixer, seed)
    return Figures(figures(both.model), figures(both.knn), figures(both.fused[weight])), weight


def _tested(
    ranker: Ranker,
    sessions: Sessions,
    fresh: NDArray[np.bool_],
    test: Prefixes,
    weight: float,
    config: BenchmarkConfig,
) -> Figures:
    """Figures on the test prefixes, with counts and kNN of all sessions."""
    knn = SessionKnn(sessions, len(fresh), config.knn)
    ranker.counts = count(sessions, len(fresh), config.counting)
    _meet(ranker.net, ranker.counts, fresh)
    ranks = together(rank(each, ranker.mixer, (weight,)) for each in ask(ranker, knn, test))
    return Figures(figures(ranks.model), figures(ranks.knn), figures(ranks.fused[weight]))


def _meet(net: PathNet, counts: Counts, fresh: NDArray[np.bool_]) -> None:
    """Gives items that the network has not met the mean of their neighbours' vectors."""
    rows = torch.from_numpy(np.flatnonzero(fresh))
    rows = rows[counts.near.weights[rows].sum(1) > 0]
    near = net.vectors[counts.near.ids[rows].long()] * counts.near.weights[rows][:, :, None]
    net.vectors[rows] = near.sum(1) / near.sum(1).norm(dim=1, keepdim=True).clamp(min=1e-6)


def _teller(say: Callable[[str], None]) -> Callable[[float, float], None]:
    """Says how far a training is, each tenth of it."""
    told = [0.0]

    def tell(done: float, loss: float) -> None:
        if done >= told[0] + 0.1:
            told[0] = done
            say(f"  {100 * done:3.0f} %, loss {loss:.3f}")

    return tell
