"""PathModel -> ONNX, step by step: graphs that go along a path and keep what they have made of it.

The graph of `training.export` reads a path from its beginning. These read one step, with keys and
values of the steps before it, and cost one step's work: `step-0.onnx` makes a vector of a step and
the first layer's key and value; `step-n.onnx` is the n-th layer with the next one's key and value,
and the last one is the last layer with the heads. `serving/incremental_graphs.py` has the contract.

What is said after a step is the same bit for bit, whether the steps before it were read one by one
in earlier calls or all at once in this one, by whichever others they are accompanied:

1.  Every row of a batch is a step of its own. No sum goes over rows, and none over a length that
    differs from run to run: a window always has `attention_window` places, empty ones masked.
2.  Keys are kept as they are before they are turned by their position. The query is turned
    instead, once for each distance, so that no value depends on how long a path has been followed.

With a step in hand, what is around the products is most of the work: operations over few numbers,
each of which costs its call. So norms have the form that onnxruntime makes one operation of, and in
narrow layers larger products stand for several small operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

import torch
from torch import Tensor, nn
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer

from clickpath.encoding import FEATURES
from serving.outputs import output_names
from training.export import (
    MASKED,
    ServedEmbedding,
    constant,
    dense_weights,
    graph_of,
    half_turn,
    probabilities,
)
from training.form import CONTEXT
from training.model import PathModel, repeats

#: Up to this width a product that is several times as large is cheaper than the operations that it
#: saves; measured at 32, 64 and 128.
_NARROW: Final = 64


class Norm(nn.Module):
    """`training.export.norm` as the five operations and one gain that onnxruntime knows."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.gain = constant(torch.ones(width))  # the real one is in the weights that follow
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        normed: Tensor = x / (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt() * self.gain
        return normed


class KeyValue(nn.Module):
    """What a layer keeps of a step."""

    def __init__(self, layer: MistralDecoderLayer, eps: float) -> None:
        super().__init__()
        attention, gain = layer.self_attn, layer.input_layernorm.weight
        both = torch.cat([attention.k_proj.weight, attention.v_proj.weight])
        self.weight = constant((both * gain).T)  # (D, 2D)
        self.norm = Norm(len(gain), eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Steps (N, D) -> keys and values, (N, D) each."""
        key, value = (self.norm(x) @ self.weight).chunk(2, -1)
        return key, value


class FirstStep(nn.Module):
    """A step as a vector, with the first layer's key and value."""

    def __init__(self, model: PathModel, following: KeyValue) -> None:
        super().__init__()
        self.embed = ServedEmbedding(model)
        self.following = following

    def forward(self, step: Tensor, items: Tensor) -> tuple[Tensor, ...]:
        """Steps (N, 6) and the items of the CONTEXT steps up to each -> x, key, value (N, D)."""
        path = step[:, :, None]  # (N, 6, 1)
        x = self.embed(path, self.embed.rows(path[:, 1:3]), repeats(items)[:, None])[:, 0]
        return (x, *self.following(x))


class Said(nn.Module):
    """Some of the linear heads."""

    def __init__(self, model: PathModel, heads: Sequence[str]) -> None:
        super().__init__()
        self.weight, self.bias, self.sizes = dense_weights(model)
        self.every, self.heads = model.linear_heads, heads
        config = model.trunk.config
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Steps (N, D) -> the outputs that `serving.outputs` names."""
        logits = self.norm(x) @ self.weight + self.bias
        said = probabilities(logits, self.sizes, self.every)
        return tuple(said[name] for name in self.heads)


class LayerStep(nn.Module):
    """One layer for one step each; D width, H heads, W places in the window, the step's own last.

    Args:
        layer: Trained.
        model: Whose layer it is.
        after: What follows: the next layer's key and value, or the heads.
    """

    def __init__(self, layer: MistralDecoderLayer, model: PathModel, after: nn.Module) -> None:
        super().__init__()
        attention, mlp, config = layer.self_attn, layer.mlp, model.trunk.config
        self.heads, self.window = config.num_attention_heads, model.config.attention_window
        gain, heads, window = layer.input_layernorm.weight, self.heads, self.window
        self.norm = Norm(len(gain), config.rms_norm_eps)
        self.narrow = len(gain) <= _NARROW
        query = attention.q_proj.weight * attention.scaling
        turned = half_turn(len(gain), heads) @ query
        # The query is turned by how far it is ahead of each place.
        everywhere = torch.zeros(1, window, config.hidden_size)
        ahead = torch.arange(window - 1, -1, -1)[None]
        cos, sin = (each[0].repeat(1, heads) for each in model.trunk.rotary_emb(everywhere, ahead))
        empty = torch.arange(window + 1)[:, None] + torch.arange(window)[None] < window
        mask = (empty * MASKED)[:, :, None].expand(-1, -1, heads)
        self.mask = constant(mask)  # by how many are seen: (W + 1, W, H)
        mine = torch.eye(heads).repeat_interleave(len(gain) // heads, 1)  # (H, D)
        output = attention.o_proj.weight.T
        if self.narrow:
            every = query * cos[:, :, None] + turned * sin[:, :, None]  # (W, D, D)
            self.query = constant((every.flatten(0, 1) * gain).T)  # (D, W * D)
            self.output = constant((mine[:, :, None] * output).flatten(0, 1))  # (H * D, D)
        else:
            self.query = constant((torch.cat([query, turned]) * gain).T)  # (D, 2D)
            self.cos, self.sin = constant(cos), constant(sin)  # (W, D)
            self.mine, self.output = constant(mine), constant(output)
        gain = layer.post_attention_layernorm.weight
        self.up = constant((torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * gain).T)
        self.down = constant(mlp.down_proj.weight.T)
        self.after = after

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        """The step after this layer, and what follows from it.

        Args:
            x: (N, D).
            keys: Of the window, (N, W, D), the step's own last.
            values: The same.
            seen: How many places of the window are steps, (N,), from 1.
        """
        agreed = (self.turned(x) * keys).unflatten(2, (self.heads, -1)).sum(-1)  # (N, W, H)
        logits = agreed + self.mask[seen]
        said = logits.transpose(1, 2).softmax(-1) @ values  # (N, H, D)
        # Of what a head says of all values, its own part counts.
        own = said.flatten(1) if self.narrow else (said * self.mine).sum(1)
        x = x + own @ self.output
        gate, up = (self.norm(x) @ self.up).chunk(2, -1)
        x = x + (gate.relu() * up) @ self.down
        after: tuple[Tensor, ...] = self.after(x)
        return after if isinstance(self.after, Said) else (x, *after)

    def turned(self, x: Tensor) -> Tensor:
        """The queries of steps (N, D), turned for each place of the window: (N, W, D)."""
        query: Tensor = self.norm(x) @ self.query
        if not self.narrow:
            straight, turned = query[:, None].chunk(2, -1)  # (N, 1, D)
            query = straight * self.cos + turned * self.sin
        return query.reshape(-1, self.window, x.shape[1])


def step_graphs(model: PathModel, heads: Sequence[str]) -> list[bytes]:
    """The step graphs of a model, in order; equal models give equal bytes.

    Args:
        model: Trained; it is put into evaluation mode.
        heads: What the last graph says; linear ones.
    """
    model.eval()
    config, eps = model.trunk.config, model.trunk.config.rms_norm_eps
    layers = list(cast("Iterable[MistralDecoderLayer]", model.trunk.layers))
    kept = [KeyValue(layer, eps) for layer in layers]
    # At least 2 rows: torch takes a 1 for a constant.
    rows, width, window = 3, config.hidden_size, model.config.attention_window
    first = {
        "step": torch.ones(rows, FEATURES, dtype=torch.int64),
        "items": torch.ones(rows, CONTEXT, dtype=torch.int64),
    }
    looked_at = {
        "x": torch.ones(rows, width),
        "keys": torch.ones(rows, window, width),
        "values": torch.ones(rows, window, width),
        "seen": torch.ones(rows, dtype=torch.int64),
    }
    steps: list[nn.Module] = [FirstStep(model, kept[0])]
    after = [*kept[1:], Said(model, heads)]
    steps += [LayerStep(*each) for each in zip(layers, [model] * len(layers), after, strict=True)]
    batch = {0: torch.export.Dim("batch")}
    graphs = []
    for number, step in enumerate(steps):
        inputs = looked_at if number else first
        last = number == len(layers)
        names = output_names(heads) if last else ("y", "key", "value")
        graphs.append(graph_of(step.eval(), inputs, names, [batch] * len(inputs)))
    return graphs
