"""The served model: a path network and counts name candidates, and a mixer ranks them.

The network sees through items that were never clicked together; counts are exact where there are
many, and up to date. What each deserves is learnt on sessions that neither has seen: in the
sessions that they come from, both look better than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.sessions.counts import CountConfig, Counts, gather
from training.sessions.net import PathNet


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerConfig:
    """The size of a mixer and how it is trained.

    Attributes:
        best: Items that the network adds to the candidates.
        hidden: Units of the hidden layer.
        epochs: Passes over the held-out prefixes.
        rate: Highest learning rate; it falls to nothing along a line.
        decay: Of weights.
        dropout: Of hidden units.
    """

    best: int = 100
    hidden: int = 16
    epochs: int = 6
    rate: float = 4e-3
    decay: float = 1e-3
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of some paths.

    Attributes:
        path: Shape (m,), rising.
        item: Shape (m,), rows of the vocabulary, each once a path.
        own: Shape (m,): whether the model names it itself; others came from outside.
        features: Shape (m, features).
    """

    path: Tensor
    item: Tensor
    own: Tensor
    features: Tensor


class Mixer(nn.Module):
    """Scores candidates by their features: a linear part and one hidden layer."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, prior: Tensor, config: MixerConfig) -> None:
        """Begins as a plain sum of features with these weights, shape (features,)."""
        super().__init__()
        features = len(prior)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.linear = nn.Linear(features, 1, bias=False)
        self.hidden = nn.Linear(features, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden, 1, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(prior)
            self.out.weight.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Shape (m, features) -> (m,)."""
        x = (features - self.mean) / self.deviation
        deeper = self.out(self.dropout(functional.gelu(self.hidden(x))))
        scores: Tensor = (self.linear(x) + deeper)[:, 0]
        return scores


class Ranker(nn.Module):
    """Names the candidates for the next item of a path and scores them."""

    def __init__(
        self, net: PathNet, counts: Counts, counting: CountConfig, config: MixerConfig
    ) -> None:
        super().__init__()
        self.net, self.counts, self.counting, self.config = net, counts, counting, config
        self.mixer = Mixer(counting.prior, config)

    def forward(self, paths: Tensor) -> tuple[Candidates, Tensor]:
        """The candidates after the last step of each path, and their scores, shape (m,).

        Args:
            paths: Shape (B, T), rows of the vocabulary; padding (0) at the end.
        """
        found = self.candidates(paths)
        return found, self.mixer(found.features)

    def candidates(self, paths: Tensor, foreign: Tensor | None = None) -> Candidates:
        """The candidates, not scored yet.

        Args:
            paths: Shape (B, T).
            foreign: Shape (k,): candidates from outside, as `path * V + row`.
        """
        logits = self.net(paths, (paths > 0).sum(1).clamp(min=1)).log_softmax(1)  # (B, V)
        rows = logits.shape[1]
        best = logits.topk(min(self.config.best, rows - 1), 1).indices
        own = (best + torch.arange(len(paths))[:, None] * rows).view(-1)
        if foreign is None:
            foreign = own[:0]
        found = gather(self.counts, self.counting, paths, logits, torch.cat([own, foreign]))
        outside = torch.zeros(len(found.path), dtype=torch.bool)
        outside[found.place[len(own) :]] = True
        outside[found.place[: len(own)]] = False
        outside &= ~found.counted
        return Candidates(found.path, found.item, ~outside, found.features)


@dataclass(frozen=True, slots=True)
class Question:
    """Candidates of some paths of which the right one is known.

    Attributes:
        path: Shape (m,), rising, of those paths only.
        right: Shape (n,), where the right candidate of each path stands.
        features: Shape (m, features).
    """

    path: Tensor
    right: Tensor
    features: Tensor


def fit_mixer(mixer: Mixer, questions: Sequence[Question], config: MixerConfig, seed: int) -> None:
    """Fits a mixer in place, by the cross entropy of the right candidate among those of its path.

    Args:
        mixer: A new one.
        questions: A step each, from sessions that neither network nor counts have seen. Without
            any the mixer stays a sum by its prior.
        config: How to train.
        seed: Of order and dropout.
    """
    questions = [each for each in questions if len(each.right)]
    if not questions:
        return
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    mean, square = (
        torch.stack([power(each.features).mean(0) for each in questions]).mean(0)
        for power in (torch.clone, torch.square)
    )
    mixer.mean.copy_(mean)
    # What hardly varied here may do so later, and must not count a thousand times then.
    mixer.deviation.copy_((square - mean**2).clamp(min=0.01).sqrt())
    with torch.no_grad():
        mixer.linear.weight.mul_(mixer.deviation)
    optimizer = torch.optim.AdamW(mixer.parameters(), lr=config.rate, weight_decay=config.decay)
    steps = config.epochs * len(questions)
    mixer.train()
    for step in range(steps):
        if step % len(questions) == 0:
            order = rng.permutation(len(questions))
        question = questions[order[step % len(questions)]]
        optimizer.param_groups[0]["lr"] = config.rate * min((step + 1) / 20, 1 - step / steps)
        scores = mixer(question.features)
        loss = (_normalizers(scores, question) - scores[question.right]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mixer.eval()


def _normalizers(scores: Tensor, question: Question) -> Tensor:
    """The logarithm of the sum of the exponentials of each path's scores, shape (n,)."""
    paths = len(question.right)
    highest = torch.full((paths,), -torch.inf)
    highest = highest.scatter_reduce(0, question.path, scores.detach(), "amax")
    each = (scores - highest[question.path]).exp()
    return highest + torch.zeros(paths).index_add(0, question.path, each).log()
