"""PathModel -> ONNX: the graph that serving runs, built for one answer per path.

The contract with serving is in `serving/card.py`. The graph gives what `PathModel` gives after the
last step of each path, and is arranged to be cheap on one CPU thread:

1.  Only the last step is asked, so the last layer makes keys and values for all steps but a query
    for one, and the feed-forward part and the heads run on one vector per path.
2.  Turning a vector by its position is a fixed matrix and two factors, `x cos + (x R) sin`; R is
    multiplied into the weights, so that queries, keys, their turned halves and the values come
    from one product.
3.  The gains of the norms, the scale of attention, and pairs of matrices with one input are
    multiplied or joined together beforehand.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable
from typing import Final, cast

import onnx
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from clickpath.encoding import FEATURES
from training.model import PathModel, never_padding

_OPSET: Final = 18
_MASKED: Final = -1e9


class ServedLayer(nn.Module):
    """One decoder layer with its weights joined; D width, H heads, K = D / H."""

    def __init__(self, layer: LlamaDecoderLayer, heads: int, eps: float) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        gain = layer.input_layernorm.weight  # (D,)
        query = attention.q_proj.weight * attention.scaling  # (D, D), out x in
        key, value = attention.k_proj.weight, attention.v_proj.weight
        turn = half_turn(len(gain), heads)
        self.query = constant((torch.cat([query, turn @ query]) * gain).T)  # (D, 2D)
        self.keys = constant((torch.cat([key, turn @ key, value]) * gain).T)  # (D, 3D)
        self.output = constant(attention.o_proj.weight.T)
        gain = layer.post_attention_layernorm.weight
        self.up = constant((torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * gain).T)
        self.down = constant(mlp.down_proj.weight.T)
        self.heads = heads
        self.eps = eps

    def queries(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Normed vectors (..., D) -> queries, turned by their positions."""
        straight, turned = (x @ self.query).chunk(2, -1)
        return straight * cos + turned * sin

    def keys_values(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Normed vectors (..., D) -> keys, turned by their positions, and values."""
        straight, turned, value = (x @ self.keys).chunk(3, -1)
        return straight * cos + turned * sin, value

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, K)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The gated feed-forward part with its residual, (..., D) -> (..., D)."""
        gate, up = (norm(x, self.eps) @ self.up).chunk(2, -1)
        return x + (gate.relu() * up) @ self.down

    def every_step(self, x: Tensor, cos: Tensor, sin: Tensor, causal: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D); `causal` is (T, T), added to the attention's logits."""
        normed = norm(x, self.eps)
        key, value = self.keys_values(normed, cos, sin)
        query = self.split(self.queries(normed, cos, sin))
        weights = (query @ self.split(key).transpose(2, 3) + causal).softmax(-1)  # (B, H, T, T)
        seen = (weights @ self.split(value)).transpose(1, 2).flatten(2)  # (B, T, D)
        return self.feed_forward(x + seen @ self.output)

    def last_step(self, x: Tensor, last: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, D) -> (B, D), for the steps whose indexes are `last`, shape (B,)."""
        normed = norm(x, self.eps)
        key, value = self.keys_values(normed, cos, sin)
        row = last[:, None, None].expand(-1, 1, x.shape[2])
        query = self.queries(normed.gather(1, row), cos[last][:, None], sin[last][:, None])
        steps = torch.arange(x.shape[1])
        padding = (steps[None] > last[:, None]).float() * _MASKED  # (B, T)
        logits = self.split(query) @ self.split(key).transpose(2, 3)  # (B, H, 1, T)
        weights = (logits + padding[:, None, None]).softmax(-1)
        seen = (weights @ self.split(value)).flatten(1)  # (B, D)
        return self.feed_forward(x.gather(1, row).squeeze(1) + seen @ self.output)


class ServedModel(nn.Module):
    """Probabilities after the last step of each path."""

    def __init__(self, model: PathModel, steps: int) -> None:
        super().__init__()
        config = model.trunk.config
        heads, eps = config.num_attention_heads, config.rms_norm_eps
        self.embed = model.embed
        layers = cast("Iterable[LlamaDecoderLayer]", model.trunk.layers)
        self.layers = [ServedLayer(layer, heads, eps) for layer in layers]
        self.registered = nn.ModuleList(self.layers)
        gain = model.trunk.norm.weight
        self.action_weight = constant((model.next_action.weight * gain).T)
        self.action_bias = constant(never_padding(model.next_action.bias))
        self.buy_weight = constant((model.purchase.weight * gain).T)
        self.buy_bias = constant(model.purchase.bias)
        self.eps = eps
        everywhere = torch.zeros(1, steps, config.hidden_size)
        cos, sin = model.trunk.rotary_emb(everywhere, torch.arange(steps)[None])  # (1, steps, K)
        self.cos = constant(cos[0].repeat(1, heads))  # (steps, D)
        self.sin = constant(sin[0].repeat(1, heads))
        self.causal = constant(torch.full((steps, steps), _MASKED).triu(1))

    def forward(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        """Paths (B, 6, T) -> probabilities (B, A) and (B,)."""
        time = paths.shape[2]
        last = ((paths[:, 0] != 0).sum(1) - 1).clamp(min=0)  # (B,)
        cos, sin = self.cos[:time], self.sin[:time]
        causal = self.causal[:time, :time]
        x = self.embed(paths)  # (B, T, D)
        *first, final = self.layers
        for layer in first:
            x = layer.every_step(x, cos, sin, causal)
        x = norm(final.last_step(x, last, cos, sin), self.eps)  # (B, D)
        actions = (x @ self.action_weight + self.action_bias).softmax(-1)
        purchase = (x @ self.buy_weight + self.buy_bias).sigmoid()
        return actions, purchase.squeeze(-1)


def norm(x: Tensor, eps: float) -> Tensor:
    """RMS norm without its gain, which is in the weights that follow."""
    normed: Tensor = x * ((x * x).mean(-1, keepdim=True) + eps).rsqrt()
    return normed


def half_turn(width: int, heads: int) -> Tensor:
    """R, (D, D): what `rotate_half` of rotary positions does to the vector of each head."""
    half = width // heads // 2
    one = torch.zeros(2 * half, 2 * half)
    one[:half, half:] = -torch.eye(half)
    one[half:, :half] = torch.eye(half)
    whole: Tensor = torch.block_diag(*[one] * heads)
    return whole


def constant(weight: Tensor) -> nn.Parameter:
    """A weight as the graph keeps it."""
    return nn.Parameter(weight.detach().clone().contiguous(), requires_grad=False)


def to_onnx(model: PathModel, steps: int) -> bytes:
    """The self-contained ONNX file of a model; equal models give equal bytes.

    Args:
        model: Trained; it is put into evaluation mode.
        steps: The longest path it will be asked about.
    """
    served = ServedModel(model.eval(), steps).eval()
    # At least 2 paths and steps: torch takes a 1 for a constant.
    example = torch.ones(3, FEATURES, 7, dtype=torch.int64)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own deprecations
        program = torch.onnx.export(
            served,
            (example,),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["paths"],
            output_names=["next_action", "purchase"],
            dynamic_shapes=(
                {0: torch.export.Dim("batch"), 2: torch.export.Dim("time", max=steps)},
            ),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    onnx.checker.check_model(proto)
    buffer = io.BytesIO()
    onnx.save(proto, buffer)
    return buffer.getvalue()


def _strip(proto: onnx.ModelProto) -> None:
    """Takes out where on whose disk the graph was made."""
    proto.producer_name, proto.producer_version, proto.doc_string = "clickpath", "", ""
    del proto.metadata_props[:]
    graph = proto.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in graph.value_info:
        del value.metadata_props[:]
