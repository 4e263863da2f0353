"""The training of a path network: sampled columns, lazy rows, averaged weights, a deadline.

The rules:

- Every click but the first of a session is a target, and one causal pass gives them all.
- A step scores the items of its own sessions and some drawn evenly from the others. The drawn ones
  stand for all others: the logarithm of how many each stands for is added to their logits.
- Only rows of the vectors that a step scores are changed, by Adam on those rows.
- The learning rate falls along a cosine over the time or the epochs allowed, whichever ends first;
  a run that time ends cannot be repeated to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clickpath.errors import FatalError
from training.sessions.log import NO_ITEM, Ints, Sessions
from training.sessions.net import PathNet
from training.sessions.softmax import cross_entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a network is trained.

    Attributes:
        seed: Of weights, order, dropout and drawn columns.
        epochs: Most passes over the sessions.
        targets: Of a step, about; fewer on a small log, so that an epoch has 200 steps or so.
        drawn: Columns of a step beside those of its own items.
        rate: Highest learning rate.
        warm_up: Share of the training over which the rate rises.
        averaging: Decay of the averaged weights at each step.
        age_decay: Share of the log over which a session's weight in the loss falls to 1/e.
        clip: Largest norm of the gradient of the small weights.
    """

    seed: int = 1
    epochs: float = 16.0
    targets: int = 2048
    drawn: int = 4096
    rate: float = 7e-4
    warm_up: float = 0.03
    averaging: float = 0.999
    age_decay: float = 0.7
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training did: steps, passes over the sessions, seconds, last mean loss in nats."""

    steps: int
    epochs: float
    seconds: float
    loss: float


#: Called after each step with the share of the training that is done, and the loss.
Progress = Callable[[float, float], None]

#: Says how good the model is now; more is better.
Judge = Callable[[], float]


def fit(
    model: PathNet,
    sessions: Sessions,
    config: FitConfig,
    seconds: float,
    progress: Progress = lambda *_: None,
    judge: Judge | None = None,
) -> Fitted:
    """Trains a network in place, for at most so many seconds; it ends with averaged weights.

    Args:
        model: To train.
        sessions: Oldest first.
        config: How to train.
        seconds: Of wall time.
        progress: Is told about each step.
        judge: Is asked after 60 and 80 % and at the end; the best averages stay.

    Raises:
        FatalError: The loss is not a finite number any more.
    """
    started_s, step, epoch, loss = monotonic(), 0, 0.0, 0.0
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    steps = _Steps(model, sessions, config)
    model.train()
    judged = [0.6, 0.8]
    for epoch, batch in _batches(sessions, config, model.config.steps, rng):
        done = max((monotonic() - started_s) / max(seconds, 1e-9), epoch / config.epochs)
        if done >= 1:
            break
        if judge is not None and judged and done >= judged[0]:
            judged.pop(0)
            steps.stand(judge)
        step += 1
        rate = config.rate * min(1.0, (done + 1e-3) / config.warm_up)
        now = steps.take(batch, step, rate * (0.51 + 0.49 * math.cos(math.pi * done)))
        if not math.isfinite(now):
            raise FatalError(f"the loss became {now} in step {step} of the next-item training")
        loss += (now - loss) * max(0.01, 1 / step)
        progress(done, loss)
    steps.finish(judge)
    model.eval()
    return Fitted(step, min(epoch, config.epochs), monotonic() - started_s, loss)


class _Steps:
    """Takes the steps of a training, and keeps what they need: moments and averages."""

    def __init__(self, model: PathNet, sessions: Sessions, config: FitConfig) -> None:
        self._model, self._sessions, self._config = model, sessions, config
        by_age = np.exp(-sessions.ages / config.age_decay)
        self._weight = torch.from_numpy(by_age.astype(np.float32))
        self._small = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._small, lr=config.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self._rows = (_Rows(model.vectors), _Rows(model.bias))
        trained = (*self._small, model.vectors, model.bias)
        self._averages = [(weight, weight.detach().clone()) for weight in trained]
        self._best: tuple[float, list[Tensor]] | None = None

    def take(self, batch: Ints, step: int, rate: float) -> float:
        """Learns from some sessions; returns the loss."""
        model, index = self._model, torch.from_numpy(batch)
        session = padded(self._sessions, batch, model.config.steps + 1)  # (B, T + 1)
        b, t = torch.where(session[:, 1:] != NO_ITEM)
        rows, column_of, correction = self._columns(session)
        vectors = model.vectors[rows].requires_grad_()
        bias = model.bias[rows].requires_grad_()
        unit = functional.normalize(vectors, dim=1)
        asked = model.ask(session[:, :-1], (b, t), unit, column_of)
        loss = cross_entropy(
            asked.h,
            unit,
            bias + correction,
            asked.rows,
            asked.columns,
            asked.values,
            column_of[session[b, t + 1]],
            self._weight[index][b],
        )
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._small, self._config.clip)
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step()
        for each, of in zip(self._rows, (vectors, bias), strict=True):
            assert of.grad is not None
            each.learn(rows, of.grad, rate, step)
        if step % 5 == 0:
            self._follow(min(self._config.averaging, (1 + step) / (10 + step)) ** 5)
        return loss.item()

    @torch.no_grad()
    def stand(self, judge: Judge) -> None:
        """Has the averages judged, and remembers them if they are the best so far."""
        learning = [weight.clone() for weight, _ in self._averages]
        for weight, average in self._averages:
            weight.copy_(average)
        functional.normalize(self._model.vectors, dim=1, out=self._model.vectors)
        self._model.eval()
        score = judge()
        self._model.train()
        if self._best is None or score >= self._best[0]:
            self._best = (score, [average.clone() for _, average in self._averages])
        for (weight, _), before in zip(self._averages, learning, strict=True):
            weight.copy_(before)

    @torch.no_grad()
    def finish(self, judge: Judge | None) -> None:
        """Leaves averaged weights in the model: the best that were judged, or else the last.

        Only the direction of a vector counts, so that it may be left with unit length.
        """
        best = [average for _, average in self._averages]
        if judge is not None:
            self.stand(judge)
            assert self._best is not None
            best = self._best[1]
        for (weight, _), chosen in zip(self._averages, best, strict=True):
            weight.copy_(chosen)
        functional.normalize(self._model.vectors, dim=1, out=self._model.vectors)

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        for weight, average in self._averages:
            average.lerp_(weight, 1 - decay)

    def _columns(self, session: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows that a step scores, the column of each row (0: none), what is added to the logits.

        Column 0 is NO_ITEM; then the step's own items; then those drawn.
        """
        rows = len(self._model.bias)
        own = torch.zeros(rows, dtype=torch.bool)
        own[session.view(-1)] = True
        own[NO_ITEM] = False
        inside = own.nonzero()[:, 0]
        drawn = torch.randint(1, rows, (self._config.drawn,)).unique()
        drawn = drawn[~own[drawn]]
        scored = torch.cat([torch.zeros(1, dtype=torch.long), inside, drawn])
        column_of = torch.zeros(rows, dtype=torch.long)
        column_of[scored] = torch.arange(len(scored))
        correction = torch.zeros(len(scored))
        if len(drawn):
            stands_for = (rows - 1 - len(inside)) / len(drawn)
            correction[1 + len(inside) :] = math.log(stands_for)
        return scored, column_of, correction


class _Rows:
    """Adam on some rows of a table at a time (the others keep their moments)."""

    def __init__(self, table: Tensor) -> None:
        self._table = table
        self._mean, self._square = torch.zeros_like(table), torch.zeros_like(table)

    @torch.no_grad()
    def learn(self, rows: Tensor, gradient: Tensor, rate: float, step: int) -> None:
        """One step against the gradient, which has the shape of those rows."""
        mean = self._mean[rows].mul_(0.9).add_(gradient, alpha=0.1)
        square = self._square[rows].mul_(0.98).addcmul_(gradient, gradient, value=0.02)
        self._mean[rows], self._square[rows] = mean, square
        size = (square / (1 - 0.98**step)).sqrt_().add_(1e-8)
        self._table.index_add_(0, rows, mean / (1 - 0.9**step) / size, alpha=-rate)


def _batches(
    sessions: Sessions, config: FitConfig, steps: int, rng: np.random.Generator
) -> Iterator[tuple[float, Ints]]:
    """Epochs done so far, and the sessions of a step, without end.

    Sessions of like length stand together, so that little is padding; steps come in any order.
    """
    targets = np.minimum(sessions.lengths - 1, steps)
    candidates = np.flatnonzero(targets > 0)
    most = int(np.clip(targets.sum() // 200, min(128, config.targets), config.targets))
    epoch = 0
    while True:
        order = rng.permutation(candidates)
        batches: list[Ints] = []
        for some in np.array_split(order, max(1, len(order) // 12_000)):
            ordered = some[np.argsort(targets[some], kind="stable")]
            place = np.cumsum(targets[ordered]) // most
            batches += np.split(ordered, np.flatnonzero(np.diff(place)) + 1)
        for number, chosen in enumerate(rng.permutation(len(batches))):
            yield epoch + number / len(batches), batches[chosen]
        epoch += 1


def padded(sessions: Sessions, chosen: Ints, most: int) -> Tensor:
    """The newest clicks of some sessions, shape (chosen, longest), padded at the end with 0."""
    lengths = np.minimum(sessions.lengths[chosen], most)
    rows = np.zeros((len(chosen), max(1, int(lengths.max(initial=1)))), dtype=np.int64)
    here = np.arange(rows.shape[1]) < lengths[:, None]
    clicks = (sessions.starts[chosen + 1] - lengths)[:, None] + np.arange(rows.shape[1])
    rows[here] = sessions.items[clicks[here]]
    return torch.from_numpy(rows)
