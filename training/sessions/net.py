"""The next-item model, from a path of item rows to a logit for every item. Read it top to bottom.

Shapes in the margins: B paths in a batch, T steps, D width, V rows of the vocabulary, C columns
(all rows, or those drawn for a training step), n places that are asked, m candidates of all of
them together.

A logit is the sum of four parts:

- the cosine of the item's vector with what a causal Transformer made of the path (after NISER,
  Gupta et al., 2019: without norms popular items win), times a temperature;
- a bias of the item;
- for items of the path itself, a term that looks at how far back they are (a copy head);
- for co-visited items, a term from the table of neighbours: summed over the last items of the
  path, near ones alone and far ones too. In training the session's own pairs are taken out of the
  sums, or the answer would stand in the question.

Tables, vectors and biases are buffers: the whole is one graph from a path to scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.sessions.covisits import Table
from training.sessions.log import NO_ITEM

_NEVER = -1e4

#: A neighbour with this share of its place's sum gets a term of log 2.
_FAINT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """The size of a model.

    Attributes:
        width: D, of vectors.
        layers: Transformer layers.
        heads: Attention heads of each.
        copy_width: Of queries and keys of the copy head.
        steps: Newest clicks of a path that are read.
        dropout: Of vectors and of each layer's output.
        last: Newest items of a path whose neighbours are summed.
        near: Clicks over which an item's weight falls to 1/e in the sum of near items.
        far: The same for the sum of far items.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    copy_width: int = 32
    steps: int = 20
    dropout: float = 0.3
    last: int = 6
    near: float = 0.7
    far: float = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Places of paths, ready to be scored.

    Attributes:
        h: Shape (n, D): what is compared with the items' unit vectors.
        rows: Shape (m,): places whose logits are changed, rising.
        columns: Shape (m,): the candidates; one may occur twice at a place.
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


class NextItem(nn.Module):
    """Scores every item as the next one of a path."""

    vectors: Tensor
    bias: Tensor

    def __init__(self, config: NetConfig, start: Tensor, table: Table) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("vectors", start.clone())  # (V, D), of unit length; trained by row
        bias = torch.zeros(len(start))
        bias[NO_ITEM] = _NEVER
        self.register_buffer("bias", bias)
        self.table = table
        self.seen_before = nn.Parameter(torch.zeros(4, width))
        self.position = nn.Parameter(torch.zeros(config.steps, width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(2 * width, width, bias=False)
        with torch.no_grad():  # start from the mean of the path's summary and its last item
            self.readout.weight.copy_(torch.eye(width).repeat(1, 2) / 2)
        self.temperature = nn.Parameter(torch.tensor(math.log(12.0)))
        self.copy_q = nn.Linear(width, config.copy_width)
        self.copy_k = nn.Linear(width, config.copy_width)
        self.copy_distance = nn.Parameter(torch.zeros(config.steps))
        self.copy_gate = nn.Linear(width, 3)
        self.trust = nn.Linear(width, 4)
        nn.init.zeros_(self.trust.weight)
        nn.init.constant_(self.trust.bias, 0.3)
        # Logarithms of what cosine, bias, copies and the table's four terms are multiplied by;
        # fitted on sessions that neither vectors nor table have seen.
        self.scales = nn.Parameter(torch.zeros(7), requires_grad=False)

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
        logits = torch.addmm(self.bias_of(self.bias), asked.h, self.vectors.T)  # (B, V)
        logits.view(-1).index_add_(0, asked.rows * len(self.bias) + asked.columns, asked.values)
        return logits

    def bias_of(self, bias: Tensor) -> Tensor:
        """The bias as it enters the logits."""
        return bias * self.scales[1].exp()

    def ask(
        self,
        paths: Tensor,
        places: tuple[Tensor, Tensor],
        vectors: Tensor,
        column_of: Tensor | None = None,
        own: Tensor | None = None,
        future: Tensor | None = None,
    ) -> Asked:
        """What is known at some places of paths.

        Args:
            paths: Shape (B, T).
            places: Path and step of each place, both of shape (n,).
            vectors: Shape (C, D), of unit length; row 0 is NO_ITEM.
            column_of: Shape (V,), the column of each row, 0 if it has none; None if C is V.
            own: Shape (B,), what a pair of the session counts in the table, if it is in it.
            future: Shape (B, T + 1), the whole session, where `own` is given.
        """
        b, t = places
        steps = torch.arange(paths.shape[1])
        columns = paths if column_of is None else column_of[paths]
        e = self.dropout(functional.embedding(columns, vectors))  # (B, T, D)
        same = (paths[:, :, None] == paths[:, None, :]).float()  # (B, T, T)
        seen = same.tril(-1).sum(2).clamp(max=3).long()
        x = e + self.seen_before[seen] + self.position[: len(steps)]
        distance = (steps[:, None] - steps).clamp(min=0)
        mask = torch.where(steps[:, None] >= steps, 0.0, _NEVER)
        for layer in self.layers:
            x = layer(x, distance, mask)
        x = self.norm(x)
        now = x[b, t]  # (n, D)
        h = functional.normalize(self.readout(torch.cat([now, e[b, t]], 1)), dim=1)
        h = h * (self.temperature + self.scales[0]).exp()
        copies = self._copies(x, now, same, places) * self.scales[2].exp()
        copied = torch.where(steps <= t[:, None], columns[b], NO_ITEM)  # (n, T)
        row, column, sums, totals = self._sums(paths, places, column_of, len(vectors), own, future)
        near, far = sums
        near_share, far_share = torch.log1p(sums / (_FAINT * totals[:, row]))
        terms = torch.stack(
            [torch.log1p(10 * near), near_share, torch.log1p(10 * far), far_share], 1
        )
        together = (self.trust(now)[row] * terms * self.scales[3:].exp()).sum(1)  # (m,)
        at, step = torch.where(copied != NO_ITEM)
        rows = torch.cat([at, row])
        rows, order = rows.sort()
        where = torch.cat([copied[at, step], column])[order]
        return Asked(h, rows, where, torch.cat([copies[at, step], together])[order])

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

    def _decays(self) -> Tensor:
        """Weights of the last items in the near and the far sum, shape (2, last)."""
        back = torch.arange(self.config.last)
        return torch.exp(-back / torch.tensor([[self.config.near], [self.config.far]]))

    @torch.no_grad()
    def _sums(
        self,
        paths: Tensor,
        places: tuple[Tensor, Tensor],
        column_of: Tensor | None,
        columns: int,
        own: Tensor | None,
        future: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Neighbours of the last items, each once a place.

        A session's own pairs enter with a minus.

        Returns:
            Row and column, of shape (m,); near and far sum, of shape (2, m); and what these are
            over all neighbours, those without a column too, of shape (2, n).
        """
        b, t = places
        table = self.table
        back = torch.arange(min(self.config.last, paths.shape[1]))
        at = (t[:, None] - back).clamp(min=0)  # (n, last)
        item = torch.where(t[:, None] >= back, paths[b[:, None], at], NO_ITEM)
        twice = (item[:, :, None] == item[:, None, :]).tril(-1).any(2)
        item = torch.where(twice, NO_ITEM, item)
        ids = table.ids[item].long()  # (n, last, neighbours)
        entries = [_entries(ids if column_of is None else column_of[ids], table.weights[item])]
        total = table.total[item]  # (n, last)
        if own is not None:
            assert future is not None
            pairs = _own_pairs(future, table) * own[:, None, None]  # (B, T + 1, T + 1)
            session = (future if column_of is None else column_of[future])[b]
            mine = session[:, None, :].expand(-1, len(back), -1)
            less = pairs[b[:, None], at] * (item > 0)[:, :, None]  # (n, last, T + 1)
            entries.append(_entries(mine, -less))
            total = total - less.sum(2)
        row, which, column, weight = (torch.cat(each) for each in zip(*entries, strict=True))
        weight = weight * table.scale[item[row, which]]
        pair, place = torch.unique(row * columns + column, return_inverse=True)
        decay = torch.exp(-back / torch.tensor([[self.config.near], [self.config.far]]))
        sums = torch.zeros(2, len(pair)).index_add_(1, place, decay[:, which] * weight)
        sums = torch.where(sums < 1e-5, 0.0, sums)
        totals = (decay[:, None] * (total * table.scale[item])).sum(2)  # (2, n)
        return pair // columns, pair % columns, sums, totals.clamp(min=1e-3)


def _entries(columns: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Those of shape (n, last, ...) that have a column and a weight: their places and both."""
    row, which, place = torch.where((columns > 0) & (weights != 0))
    return row, which, columns[row, which, place], weights[row, which, place]


def _own_pairs(sessions: Tensor, table: Table) -> Tensor:
    """What a session added to the row of the item at one step for the item at another.

    Shape (B, T, T); summed over all steps that have the first item.
    """
    steps = torch.arange(sessions.shape[1])
    distance = steps - steps[:, None]
    most = len(table.forward) - 1
    weight = torch.where(
        distance > 0,
        table.forward[distance.clamp(0, most)],
        table.backward[(-distance).clamp(0, most)],
    )
    same = sessions[:, :, None] == sessions[:, None, :]
    return (same.float() @ weight) * (~same) * (sessions[:, None, :] > 0)
