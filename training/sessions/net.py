"""The path network, from a path of item rows to a logit for every item. Read it top to bottom.

Shapes in the margins: B paths in a batch, T steps, D width, V rows of the vocabulary, C columns
(all rows, or those drawn for a training step), n places that are asked, m copies of all of them.

A logit is the sum of three parts:

- the cosine of the item's vector with a summary of the path (after NISER, Gupta et al., 2019:
  without norms popular items win), times a temperature. The summary is what a causal Transformer
  made of the path, plus a mean of the path's own item vectors that the Transformer weighs (after
  CORE, Hou et al., 2022: paths and items then live in one space from the first step on);
- a bias of the item;
- for items of the path itself, a term that looks at how far back they are (a copy head).

Nothing is counted here. Counts of the sessions that a network learns from hold the answers, so it
would trust them more than they deserve; `ranker.py` adds them afterwards, on held-out sessions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.sessions.log import NO_ITEM
from training.sessions.softmax import fastest_type

_NEVER = -1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """The size of a network.

    Attributes:
        width: D, of vectors.
        layers: Transformer layers.
        heads: Attention heads of each.
        copy_width: Of queries and keys of the copy head.
        steps: Newest clicks of a path that are read.
        dropout: Of vectors and of each layer's output.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    copy_width: int = 32
    steps: int = 20
    dropout: float = 0.3


@dataclass(frozen=True, slots=True)
class Asked:
    """Places of paths, ready to be scored.

    Attributes:
        h: Shape (n, D): what is compared with the items' unit vectors.
        rows: Shape (m,): places whose logits are changed, rising.
        columns: Shape (m,): the items; one may occur twice at a place.
        values: Shape (m,): what is added to their logits.
    """

    h: Tensor
    rows: Tensor
    columns: Tensor
    values: Tensor


class Layer(nn.Module):
    """Attention with a learned bias by distance, then a feed-forward part; norms come first."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm_a, self.norm_f = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.by_distance = nn.Parameter(torch.zeros(config.heads, config.steps))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, distance: Tensor, mask: Tensor) -> Tensor:
        """Vectors of shape (B, T, D) -> the same shape; distance and mask: (T, T)."""
        b, t, d = x.shape
        parts = self.qkv(self.norm_a(x)).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        logits = q @ k.transpose(-1, -2) / math.sqrt(d // self.heads)
        logits = logits + self.by_distance[:, distance] + mask
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d)
        x = x + self.dropout(self.mix(mixed))
        deeper: Tensor = self.dropout(self.down(functional.gelu(self.up(self.norm_f(x)))))
        return x + deeper


class PathNet(nn.Module):
    """Scores every item as the next one of a path."""

    vectors: Tensor
    bias: Tensor

    def __init__(self, config: NetConfig, start: Tensor) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("vectors", start.clone())  # (V, D), of unit length; trained by row
        bias = torch.zeros(len(start))
        bias[NO_ITEM] = _NEVER
        self.register_buffer("bias", bias)
        self.seen_before = nn.Parameter(torch.zeros(4, width))
        self.position = nn.Parameter(torch.zeros(config.steps, width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(2 * width, width, bias=False)
        with torch.no_grad():  # start from the mean of the path's summary and its last item
            self.readout.weight.copy_(torch.eye(width).repeat(1, 2) / 2)
        self.weigh = nn.Linear(width, width)
        self.weigh_distance = nn.Parameter(-torch.arange(config.steps) / 2)
        self.temperature = nn.Parameter(torch.tensor(math.log(12.0)))
        self.copy_q = nn.Linear(width, config.copy_width)
        self.copy_k = nn.Linear(width, config.copy_width)
        self.copy_distance = nn.Parameter(torch.zeros(config.steps))
        self.copy_gate = nn.Linear(width, 3)

    def forward(self, paths: Tensor, lengths: Tensor) -> Tensor:
        """Logits of all items after the last step of each path.

        Args:
            paths: Shape (B, T), rows of the vocabulary; padding (0) at the end.
            lengths: Shape (B,), steps of each path, at least 1.

        Returns:
            Shape (B, V).
        """
        places = (torch.arange(len(paths)), lengths - 1)
        asked = self.ask(paths, places, self.vectors)
        logits = torch.addmm(self.bias, asked.h, self.vectors.T)  # (B, V)
        logits.view(-1).index_add_(0, asked.rows * len(self.bias) + asked.columns, asked.values)
        return logits

    def ask(
        self,
        paths: Tensor,
        places: tuple[Tensor, Tensor],
        vectors: Tensor,
        column_of: Tensor | None = None,
    ) -> Asked:
        """What is known at some places of paths.

        Args:
            paths: Shape (B, T).
            places: Path and step of each place, both of shape (n,).
            vectors: Shape (C, D), of unit length; row 0 is NO_ITEM.
            column_of: Shape (V,), the column of each row, 0 if it has none; None if C is V.
        """
        b, t = places
        steps = torch.arange(paths.shape[1])
        columns = paths if column_of is None else column_of[paths]
        e = self.dropout(functional.embedding(columns, vectors))  # (B, T, D)
        same = (paths[:, :, None] == paths[:, None, :]).float()  # (B, T, T)
        x = self._transformed(e, same)
        now = x[b, t]  # (n, D)
        back = t[:, None] - steps  # (n, T)
        weights = (self.weigh(now)[:, None] * x[b]).sum(2) / math.sqrt(self.config.width)
        weights = weights + self.weigh_distance[back.clamp(min=0)]
        weights = weights.masked_fill(back < 0, _NEVER).softmax(1)
        h = self.readout(torch.cat([now, e[b, t]], 1)) + (weights[:, None] @ e[b])[:, 0]
        h = functional.normalize(h, dim=1) * self.temperature.exp()
        copies = self._copies(x, now, same, places)
        copied = torch.where(back >= 0, columns[b], NO_ITEM)  # (n, T)
        row, step = torch.where(copied != NO_ITEM)
        return Asked(h, row, copied[row, step], copies[row, step])

    def _transformed(self, e: Tensor, same: Tensor) -> Tensor:
        """What the layers make of a path's vectors, shape (B, T, D)."""
        steps = torch.arange(e.shape[1])
        seen = same.tril(-1).sum(2).clamp(max=3).long()
        distance = (steps[:, None] - steps).clamp(min=0)
        mask = torch.where(steps[:, None] >= steps, 0.0, _NEVER)
        x = e + self.seen_before[seen] + self.position[: len(steps)]
        low = self.training and fastest_type() == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            for layer in self.layers:
                x = layer(x, distance, mask)
        normed: Tensor = self.norm(x.float())
        return normed

    def _copies(
        self, x: Tensor, now: Tensor, same: Tensor, places: tuple[Tensor, Tensor]
    ) -> Tensor:
        """A term for the latest click on each item of the path, 0 elsewhere; shape (n, T)."""
        b, t = places
        steps = torch.arange(x.shape[1])
        back = t[:, None] - steps
        past = back >= 0
        fit = (self.copy_q(now)[:, None] * self.copy_k(x)[b]).sum(2)
        fit = fit / math.sqrt(self.config.copy_width) + self.copy_distance[back.clamp(min=0)]
        last, earlier, again = self.copy_gate(now).split(1, dim=1)
        fit = fit + torch.where(back == 0, last, earlier)
        same_past = same[b] * past[:, None]  # (n, T, T)
        clicked_later = (same_past * (steps > steps[:, None])).sum(2) > 0
        fit = fit + again * (same_past.sum(2) - 1).clamp(min=0, max=3)
        return torch.where(past & ~clicked_later, fit, 0.0)
