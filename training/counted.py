"""The path model with counting inside: what short logs can teach is mostly counts.

Beside what the layers make of a path there stand, in the same graph,

-   for an action: a linear part on a summary of the path - the last actions, how often each came,
    repeats, the silence, and what people do in this category. It is fitted first, to the optimum
    of its convex loss, so that the layers are left with what is not linear in it;
-   for a category: a mixture of what the path has held, of what is seen together with that, and of
    what everybody looks at, weighted by how long ago it was ("pointer mixture": Merity et al.,
    "Pointer sentinel mixture models", 2017).

The heads of the layers begin at 0: before the loop has done a step, the model says what the counts
say. What a user did is taken out of the rates of her categories while they are learned from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from clickpath.vocabulary import ACTION_COUNT
from training.dataset import Batch
from training.form import CONTEXT, KIND, ModelConfig
from training.lookup import Ints, Lookup, Vocabulary
from training.model import NEVER, PathModel, States, before, never_padding

#: Categories that are told apart beside a category, most often seen with it first.
_BESIDE: Final = 64

#: Steps between two categories that are still seen together; n steps apart count one nth.
_TOGETHER: Final = 6

#: How many clicks of the average category a category's rates of actions are mixed with.
_RATE_PRIOR: Final = 20.0

#: How much of what is seen beside a category is kept for what was never seen there.
_BESIDE_PRIOR: Final = 3.0

#: The linear part's squared weights cost as much as this many steps' log loss.
_PENALTY: Final = 340.0

_LAST: Final = 3
_WIDTH: Final = (_LAST + 2) * ACTION_COUNT + 9


class CountedStates(States):
    """States with the summary of the path up to each step, `wide` (..., _WIDTH)."""

    wide: Tensor

    @staticmethod
    def of(states: States, wide: Tensor) -> CountedStates:
        """States and a summary of the same steps."""
        counted = CountedStates(*states)
        counted.wide = wide
        return counted

    def at(self, chosen: Tensor) -> CountedStates:
        """The states of some steps, N of them, by a mask (B, T)."""
        return CountedStates.of(super().at(chosen), self.wide[chosen])


class CountedModel(PathModel):
    """The path model beside counts; next action and next category only."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        rows = self.embed.categories.known + 1
        self.rates = nn.Buffer(torch.zeros(rows, ACTION_COUNT))  # clicks by category and action
        self.beside = nn.Buffer(torch.zeros(rows, _BESIDE, dtype=torch.int64))
        self.shares = nn.Buffer(torch.zeros(rows, _BESIDE))
        self.popularity = nn.Buffer(torch.full((rows,), 1.0 / rows))
        self.center = nn.Buffer(torch.zeros(_WIDTH))
        self.scale = nn.Buffer(torch.ones(_WIDTH))
        self.wide = nn.Linear(_WIDTH, ACTION_COUNT)
        self.mixture = nn.Linear(config.width, 2 * CONTEXT + 1)
        self.silence(config.heads)
        nn.init.zeros_(self.wide.weight)

    def silence(self, heads: Iterable[str]) -> None:
        """Makes some heads say what the counts say, and nothing else."""
        for name in heads:
            for weight in self.heads[name].parameters():
                nn.init.zeros_(weight)
            if KIND[name] == "token":
                nn.init.zeros_(self.mixture.weight)
                age = torch.arange(CONTEXT - 1, -1, -1.0)
                own, near = 0.5 - 0.3 * age, -0.5 - 0.5 * age
                with torch.no_grad():
                    self.mixture.bias.copy_(torch.cat([own, near, torch.tensor([-1.5])]))

    def states(self, paths: Tensor) -> CountedStates:
        """What the layers and the counts make of each step."""
        states = super().states(paths)
        wide = self.summary(paths, states.category_rows[..., -1])
        return CountedStates.of(states, (wide - self.center) / self.scale)

    def say(self, name: str, states: States) -> Tensor:
        """The logits of one head; see `PathModel.say`."""
        assert isinstance(states, CountedStates)
        logits = super().say(name, states)
        if KIND[name] == "action":
            total: Tensor = logits + self.wide(states.wide)
            return total
        return logits + torch.log(self._mixed(states, logits.shape[-1]) + 1e-9)

    def _mixed(self, states: States, size: int) -> Tensor:
        """Probability of each known category by the counts alone: (..., size)."""
        rows = states.category_rows * (states.category_rows < size)  # (..., CONTEXT)
        there = rows > 0
        always = torch.ones_like(there[..., :1])
        gate = self.mixture(states.x).masked_fill(~torch.cat([there, there, always], -1), NEVER)
        own, near, everybody = gate.softmax(-1).split([CONTEXT, CONTEXT, 1], -1)
        mixed: Tensor = (everybody * self.popularity).scatter_add(-1, rows, own)
        shares = (self.shares[rows] * near[..., None]).flatten(-2)
        return mixed.scatter_add(-1, self.beside[rows].flatten(-2), shares)

    @property
    def linear_heads(self) -> tuple[str, ...]:
        """None: what is counted is added to each."""
        return ()

    def recalled(self, x: Tensor, context: Tensor, rows: Tensor) -> CountedStates:
        """The states of last steps; see `PathModel.recalled`."""
        action, item, category, _, gap, _ = context.unbind(1)  # each (B, CONTEXT)
        row = rows[:, 1, -1]
        clicks = self.rates[row * (row < len(self.rates))]
        wide = self._summary((action, item, category), gap[:, -1], clicks)
        return CountedStates.of(
            super().recalled(x, context, rows), (wide - self.center) / self.scale
        )

    def summary(self, paths: Tensor, category_row: Tensor) -> Tensor:
        """A path up to each step as numbers that bring no order of their own: (B, T, _WIDTH)."""
        action, item, category, _, gap, _ = paths.unbind(1)
        clicks = self.rates[category_row * (category_row < len(self.rates))]
        if self.training:
            same = (category[:, :, None] == category[:, None, :]).float()
            own = same @ functional.one_hot(action, ACTION_COUNT).float()
            clicks = (clicks - own).clamp(min=0)
        return self._summary((before(action), before(item), before(category)), gap, clicks)

    def _summary(
        self, nearby: tuple[Tensor, Tensor, Tensor], gap: Tensor, clicks: Tensor
    ) -> Tensor:
        """The summary at some steps, (..., _WIDTH).

        Args:
            nearby: Actions, items and categories of the steps up to each, (..., CONTEXT).
            gap: Of the step itself, (...).
            clicks: On its category, by action, (..., A).
        """
        action, *tokens = nearby
        near = (action[..., None] == torch.arange(ACTION_COUNT, device=gap.device)).long()
        counts = near.sum(-2)
        counts = torch.cat([torch.zeros_like(counts[..., :1]), counts[..., 1:]], -1)
        again = [_again(token) for token in tokens]
        silence = gap[..., None].float()
        parts = [
            near[..., -_LAST:, :].flatten(-2),
            torch.log1p(counts),
            torch.log1p(counts.sum(-1, keepdim=True)),
            silence / 10,
            ((silence - 15) / 10).square(),  # some minutes: neither at once nor much later
            silence == 0,
            *(torch.log1p(times) for times in again),
            *(times > 0 for times in again),
            self._category(clicks),
        ]
        return torch.cat([part.float() for part in parts], -1)

    def _category(self, clicks: Tensor) -> Tensor:
        """What people do in a category, against what they do in all: (..., A) -> (..., A + 1)."""
        overall = self.rates.sum(0) + 1e-3
        overall = overall / overall.sum()
        total = clicks.sum(-1, keepdim=True)
        rate = (clicks + _RATE_PRIOR * overall) / (total + _RATE_PRIOR)
        return torch.cat([torch.log(rate / overall), torch.log1p(total)], -1)


def _again(near: Tensor) -> Tensor:
    """How many steps of the context had the same token before: (..., CONTEXT) -> (..., 1)."""
    times = (near[..., :-1] == near[..., -1:]).sum(-1)
    return (times * (near[..., -1] != 0))[..., None]


def count(model: CountedModel, batch: Batch) -> None:
    """Puts the counts of training paths into a model; each click may be in one path only."""
    real = batch.paths[:, 0] != 0
    rows = _rows(model.embed.categories, batch.paths[:, 2])
    size = len(model.rates)
    rates = np.zeros((size, ACTION_COUNT))
    np.add.at(rates, (rows[real], batch.paths[:, 0][real]), 1.0)
    rates[0] = 0.0
    model.rates.copy_(torch.from_numpy(rates))
    popularity = np.bincount(rows[real], minlength=size) + 0.5
    popularity[0] = 0.0
    model.popularity.copy_(torch.from_numpy(popularity / popularity.sum()))
    together = _together(rows, size)
    for row in range(1, size):
        start, end = together.indptr[row : row + 2]
        weight = together.data[start:end]
        most = np.argsort(-weight, kind="stable")[:_BESIDE]
        gap = (0, _BESIDE - len(most))
        beside = np.pad(together.indices[start:end][most].astype(np.int64), gap)
        share = np.pad(weight[most] / (weight.sum() + _BESIDE_PRIOR), gap)
        model.beside[row] = torch.from_numpy(beside)
        model.shares[row] = torch.from_numpy(share)


def _together(rows: Ints, size: int) -> sparse.csr_matrix:
    """How often two categories stand near one another in a path, in either order."""
    here, there, weight = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for apart in range(1, min(_TOGETHER + 1, rows.shape[1])):
        one, two = rows[:, :-apart], rows[:, apart:]
        pair = (one > 0) & (two > 0) & (one != two)
        here += [one[pair], two[pair]]
        there += [two[pair], one[pair]]
        weight += [np.full(pair.sum(), 1 / apart)] * 2
    places = (np.concatenate(here), np.concatenate(there))
    return sparse.csr_matrix((np.concatenate(weight), places), shape=(size, size))


def _rows(lookup: Lookup, hashes: Ints) -> Ints:
    row: Ints = lookup(torch.from_numpy(hashes)).numpy()
    return np.where(row <= lookup.known, row, 0)


def fit_wide(model: CountedModel, batch: Batch, size: int = 2048) -> None:
    """Fits the linear part to the labels of training paths; from then on it stands still.

    Args:
        model: With its counts.
        batch: Training paths.
        size: Paths that are summed up at once.
    """
    model.train()  # so that a user's own clicks are not in the rates
    known = torch.from_numpy(batch.labels["next_action"] != 0)
    label = torch.from_numpy(batch.labels["next_action"])[known].long()
    paths = torch.from_numpy(batch.paths)
    with torch.no_grad():
        pieces = []
        for first in range(0, len(paths), size):
            some = paths[first : first + size]
            row = model.embed.categories(some[:, 2])
            pieces.append(model.summary(some, row)[known[first : first + size]])
        x = torch.cat(pieces)
        model.center.copy_(x.mean(0))
        spread = x.std(0)
        model.scale.copy_(torch.where(spread > 1e-3, spread, 1.0))
        x = (x - model.center) / model.scale
        often = torch.bincount(label, minlength=ACTION_COUNT)
        nn.init.zeros_(model.wide.weight)
        model.wide.bias.copy_(torch.log(often + 0.05))
    for weight in model.wide.parameters():
        weight.requires_grad_(True)
    steps = torch.optim.LBFGS(model.wide.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        steps.zero_grad()
        loss = functional.cross_entropy(never_padding(model.wide(x)), label)
        total: Tensor = loss + _PENALTY / (2 * len(label)) * model.wide.weight.square().sum()
        total.backward()
        return total

    steps.step(closure)
    for weight in model.wide.parameters():
        weight.requires_grad_(False)
    model.eval()
