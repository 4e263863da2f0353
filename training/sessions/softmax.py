"""Cross entropy over many items at once, with a few logits changed for each row.

The logits of n rows and C columns are `h @ e.T + bias`, plus `values[i]` at row `rows[i]` and
column `columns[i]`. They are made, used and dropped in blocks of rows in bfloat16 where the CPU
multiplies that faster, so that neither pass holds an (n, C) matrix of single precision.
"""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor

_BLOCK: Final = 512


class _CrossEntropy(torch.autograd.Function):
    """The gradients are known as soon as the softmax is; the backward pass hands them out."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        e: Tensor,
        bias: Tensor,
        rows: Tensor,
        columns: Tensor,
        values: Tensor,
        target: Tensor,
        weight: Tensor,
    ) -> Tensor:
        kind = fastest_type()
        e_low, bias_low = e.to(kind), bias.to(kind)
        of_h, of_values = torch.empty_like(h), torch.empty_like(values)
        of_e, of_bias = torch.zeros_like(e), torch.zeros_like(bias)
        share = weight / weight.sum()
        loss = h.new_zeros(())
        firsts = range(0, len(h), _BLOCK)
        ends = torch.searchsorted(rows, torch.tensor([*firsts, len(h)])).tolist()
        for first, begin, end in zip(firsts, ends, ends[1:], strict=False):
            block = slice(first, first + _BLOCK)
            h_low, goal, part = h[block].to(kind), target[block], share[block]
            logits = torch.addmm(bias_low, h_low, e_low.T)
            at, column = rows[begin:end] - first, columns[begin:end]
            places = at * len(e) + column
            logits.view(-1).index_add_(0, places, values[begin:end].to(kind))
            said = torch.softmax(logits, 1, out=logits)
            right = said.gather(1, goal[:, None]).float().squeeze(1)
            loss -= (right.clamp(min=1e-9).log() * part).sum()
            hit = (column == goal[at]).float()
            of_values[begin:end] = (said.view(-1)[places].float() - hit) * part[at]
            of_h[block] = ((said @ e_low).float() - e[goal]) * part[:, None]
            weighted = h[block] * part[:, None]
            of_e += (said.T @ weighted.to(kind)).float()
            of_e.index_add_(0, goal, weighted, alpha=-1)
            of_bias += (part.to(kind)[None] @ said).float()[0]
            of_bias.index_add_(0, goal, part, alpha=-1)
        ctx.save_for_backward(of_h, of_e, of_bias, of_values)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_h, of_e, of_bias, of_values = ctx.saved_tensors
        (g,) = upstream
        return g * of_h, g * of_e, g * of_bias, None, None, g * of_values, None, None


def cross_entropy(
    h: Tensor,
    e: Tensor,
    bias: Tensor,
    rows: Tensor,
    columns: Tensor,
    values: Tensor,
    target: Tensor,
    weight: Tensor,
) -> Tensor:
    """Weighted mean of the cross entropies in nats.

    Args:
        h: Shape (n, D), what is asked.
        e: Shape (C, D), the items.
        bias: Shape (C,).
        rows: Shape (m,), rising: where logits are changed.
        columns: Shape (m,), likewise; a place may occur more than once.
        values: Shape (m,), what is added there.
        target: Shape (n,), the right column.
        weight: Shape (n,), of the rows.
    """
    loss: Tensor = _CrossEntropy.apply(h, e, bias, rows, columns, values, target, weight)
    return loss


@cache
def fastest_type() -> torch.dtype:
    """bfloat16 or float32, whichever this CPU multiplies faster."""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.ones(256, 128, dtype=kind), torch.ones(128, 4096, dtype=kind)
        left @ right
        started = perf_counter()
        for _ in range(3):
            left @ right
        seconds[kind] = perf_counter() - started
    return min(seconds, key=seconds.__getitem__)
