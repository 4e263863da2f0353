"""PathModel -> ONNX: the graph that serving runs, built for one answer per path.

The contract with serving is in `serving/card.py`. The graph gives what `PathModel` gives after the
last step of each path, and is arranged to be cheap on one CPU thread:

1.  Only what the last step can see is computed: the newest `reach` steps of the path, and of these
    each layer makes only those that the next one looks at, down to one. Steps lie so that the
    newest is last; steps before the first one are masked.
2.  Turning a vector by its position is a fixed matrix and two factors, `x cos + (x R) sin`; R is
    multiplied into the weights, so that queries, keys, their turned halves and the values come
    from one product. Only distances count, so the place in the reach will do for a position.
3.  The gains of the norms, the scale of attention, and pairs of matrices with one input are
    multiplied or joined together beforehand.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer

from clickpath.encoding import FEATURES
from serving.outputs import CANDIDATES, output_names
from training.form import CONTEXT, KIND
from training.model import PathModel, States, never_padding, repeats

_OPSET: Final = 18
MASKED: Final = -1e9


class ServedLayer(nn.Module):
    """One decoder layer with its weights joined; D width, H heads, K = D / H."""

    def __init__(self, layer: MistralDecoderLayer, heads: int, eps: float) -> None:
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

    def forward(self, x: Tensor, asked: int, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """The newest steps after this layer.

        Args:
            x: All steps it may look at, (B, T, D).
            asked: How many of the newest are wanted: Q.
            cos: Of the positions of the T steps, (T, D).
            sin: The same.
            mask: Added to the attention's logits, (B, 1, Q, T).

        Returns:
            Shape (B, Q, D).
        """
        normed = norm(x, self.eps)
        straight, turned, value = (normed @ self.keys).chunk(3, -1)
        key = straight * cos + turned * sin
        straight, turned = (newest(normed, asked) @ self.query).chunk(2, -1)
        query = straight * newest(cos, asked, 0) + turned * newest(sin, asked, 0)
        logits = self.split(query) @ self.split(key).transpose(2, 3) + mask  # (B, H, Q, T)
        seen = (logits.softmax(-1) @ self.split(value)).transpose(1, 2).flatten(2)  # (B, Q, D)
        x = newest(x, asked) + seen @ self.output
        gate, up = (norm(x, self.eps) @ self.up).chunk(2, -1)
        total: Tensor = x + (gate.relu() * up) @ self.down
        return total

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, K)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class ServedEmbedding(nn.Module):
    """The embedding with all its tables in one, and both lookups in one."""

    def __init__(self, model: PathModel) -> None:
        super().__init__()
        embed = model.embed
        items = embed.item_vectors(torch.arange(embed.items.rows))
        tables = [
            *(embed.action.weight, items, embed.category.weight, embed.price.weight),
            *(embed.gap.weight, embed.position.weight, embed.repeats.weight),
        ]
        self.table = constant(torch.cat(tables))
        self.first = nn.Buffer(_starts([len(table) for table in tables])[:, None])  # (7, 1)
        lookups = (embed.items, embed.categories)
        sizes = [len(lookup.slot_row) for lookup in lookups]
        self.slot_row = nn.Buffer(torch.cat([lookup.slot_row for lookup in lookups]))
        self.slot_token = nn.Buffer(torch.cat([lookup.slot_token for lookup in lookups]))
        self.moduli = nn.Buffer(torch.stack([lookup.moduli for lookup in lookups])[:, None])
        self.first_slot = nn.Buffer(_starts(sizes)[:, None, None])  # (2, 1, 1)
        self.known = nn.Buffer(torch.tensor([[lookup.known + 1] for lookup in lookups]))  # (2, 1)
        self.shared = nn.Buffer(torch.tensor([[lookup.shared] for lookup in lookups]))

    def rows(self, tokens: Tensor) -> Tensor:
        """Rows of items and categories, both (B, 2, T); see `training.lookup.Lookup`."""
        slot = tokens[..., None] % self.moduli + self.first_slot  # (B, 2, T, 3)
        fits = functional.embedding(slot, self.slot_token) == tokens[..., None, None]
        found = (functional.embedding(slot, self.slot_row) * fits).amax((-2, -1))
        other = tokens % self.shared + self.known
        return torch.where((found > 0) | (tokens == 0), found, other)

    def forward(self, paths: Tensor, rows: Tensor, repeated: Tensor) -> Tensor:
        """Paths (B, 6, T), rows of their tokens (B, 2, T) and repeats (B, T) -> (B, T, D)."""
        position = paths[:, 5:].clamp(max=CONTEXT)
        every = torch.cat([paths[:, :1], rows, paths[:, 3:5], position, repeated[:, None]], 1)
        vectors = functional.embedding(every + self.first, self.table)  # (B, 7, T, D)
        return vectors.sum(1)


class ServedModel(nn.Module):
    """Probabilities after the last step of each path.

    Args:
        model: Trained.
        steps: The longest path.
    """

    def __init__(self, model: PathModel, steps: int) -> None:
        super().__init__()
        config = model.trunk.config
        attention_heads, self.eps = config.num_attention_heads, config.rms_norm_eps
        self.model = model
        self.heads = model.config.heads
        self.window = model.config.attention_window
        self.embed = ServedEmbedding(model)
        layers = cast("Iterable[MistralDecoderLayer]", model.trunk.layers)
        served = [ServedLayer(layer, attention_heads, self.eps) for layer in layers]
        self.layers = nn.ModuleList(served)
        self.reach = reach = min(len(served) * (self.window - 1) + 1, steps)
        everywhere = torch.zeros(1, reach, config.hidden_size)
        cos, sin = model.trunk.rotary_emb(everywhere, torch.arange(reach)[None])  # (1, reach, K)
        self.cos = constant(cos[0].repeat(1, attention_heads))  # (reach, D)
        self.sin = constant(sin[0].repeat(1, attention_heads))
        apart = torch.arange(reach)[:, None] - torch.arange(reach)[None]
        self.band = constant(((apart < 0) | (apart >= self.window)) * MASKED)  # (reach, reach)
        # The CONTEXT steps up to each step, as places in what is read, one behind the other
        places = torch.arange(reach)[:, None] + torch.arange(CONTEXT)[None]
        self.nearby = nn.Buffer(places.flatten())
        self.back = nn.Buffer(torch.arange(reach + CONTEXT - 2, -1, -1))
        self.gain = model.trunk.norm.weight
        self.linear = model.linear_heads
        if self.linear:
            self.weight, self.bias, self.sizes = dense_weights(model)

    def forward(self, paths: Tensor) -> tuple[Tensor, ...]:
        """Paths (B, 6, T) -> the outputs that `serving.outputs` names."""
        time = paths.shape[2]
        last = ((paths[:, 0] != 0).sum(1) - 1).clamp(min=0)  # (B,)
        reach = torch.sym_min(time, self.reach)
        # Where the newest steps lie, and CONTEXT - 1 before them: (B, wide)
        place = last[:, None] - newest(self.back, reach + CONTEXT - 1, 0)
        real = place >= 0
        index = place.clamp(min=0)[:, None].expand(-1, FEATURES, -1)
        wide = paths.gather(2, index) * real[:, None]  # (B, 6, wide)
        near = newest(wide, reach, 2)
        nearby = wide[:, 1].index_select(1, self.nearby[: reach * CONTEXT])
        nearby = nearby.unflatten(1, (reach, CONTEXT))  # (B, reach, CONTEXT)
        rows = self.embed.rows(near[:, 1:3])
        x = self.embed(near, rows, repeats(nearby))  # (B, reach, D)
        cos, sin = newest(self.cos, reach, 0), newest(self.sin, reach, 0)
        padding = ~newest(real, reach)[:, None, None] * MASKED  # (B, 1, 1, reach)
        seen = reach
        for number, layer in enumerate(self.layers):
            above = len(self.layers) - number - 1
            asked = torch.sym_min(time, above * (self.window - 1) + 1)
            mask = newest(newest(self.band, asked, 0), seen, 1) + newest(padding, seen, 3)
            x = layer(x, asked, newest(cos, seen, 0), newest(sin, seen, 0), mask)
            seen = asked
        x = norm(x[:, -1], self.eps)  # (B, D)
        said = {}
        if self.linear:
            said = probabilities(x @ self.weight + self.bias, self.sizes, self.linear)
        if len(said) < len(self.heads):
            context = newest(wide, CONTEXT, 2)
            rows = self.embed.rows(context[:, 1:3])  # (B, 2, CONTEXT)
            said |= self.others(self.model.recalled(x * self.gain, context, rows))
        return tuple(said[name] for name in output_names(self.heads))

    def others(self, states: States) -> dict[str, Tensor]:
        """What the other heads say; of tokens the likeliest ones, each (B, CANDIDATES)."""
        said = {}
        for name in self.heads:
            if name in self.linear:
                continue
            logits = self.model.say(name, states)
            if KIND[name] == "binary":
                said[name] = logits.sigmoid()
                continue
            likely = logits.softmax(-1)
            if KIND[name] == "action":
                said[name] = likely
                continue
            tokens = self.model.tokens(name)
            best = likely.topk(min(CANDIDATES, tokens.known), -1)
            said[name], said[f"{name}_token"] = best.values, tokens.tokens[best.indices]
        return said


def _starts(sizes: Sequence[int]) -> Tensor:
    """Where each of several tables begins when they stand one behind the other."""
    return torch.tensor([0, *sizes[:-1]]).cumsum(0)


def dense_weights(model: PathModel) -> tuple[nn.Parameter, nn.Parameter, list[int]]:
    """All linear heads as one matrix with its bias, for normed vectors, and their sizes."""
    names = model.linear_heads
    heads = [cast("nn.Linear", model.heads[name]) for name in names]
    gain = model.trunk.norm.weight
    weight = torch.cat([head.weight for head in heads]).T * gain[:, None]
    bias = [
        never_padding(head.bias) if KIND[name] == "action" else head.bias
        for name, head in zip(names, heads, strict=True)
    ]
    return constant(weight), constant(torch.cat(bias)), [len(head.bias) for head in heads]


def probabilities(logits: Tensor, sizes: list[int], heads: Sequence[str]) -> dict[str, Tensor]:
    """What the linear heads say, from all their logits (B, ...)."""
    said = {}
    for name, of in zip(heads, logits.split(sizes, -1), strict=True):
        said[name] = of.softmax(-1) if KIND[name] == "action" else of.sigmoid().squeeze(-1)
    return said


def newest(x: Tensor, steps: int, axis: int = 1) -> Tensor:
    """The last steps along an axis."""
    return x.narrow(axis, x.shape[axis] - steps, steps)


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
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("time", max=steps)}
    return graph_of(served, {"paths": example}, output_names(model.config.heads), [free])


def graph_of(
    served: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Iterable[str],
    free: Sequence[Mapping[int, torch.export.Dim]],
) -> bytes:
    """The self-contained ONNX file of a module.

    Args:
        served: With its weights.
        examples: Its inputs, by name and in order.
        outputs: The names of what it gives.
        free: Of each input, the axes that may have any length.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own deprecations
        program = torch.onnx.export(
            served,
            tuple(examples.values()),
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=tuple(dict(axes) for axes in free),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    onnx.checker.check_model(proto)
    every: bytes = proto.SerializeToString(deterministic=True)
    return every


def only(graph: bytes, heads: Sequence[str]) -> bytes:
    """The part of a graph that some of its heads need."""
    whole = onnx.load_from_string(graph)
    proto = Extractor(whole).extract_model(["paths"], list(output_names(heads)))
    _strip(proto)
    onnx.checker.check_model(proto)
    some: bytes = proto.SerializeToString(deterministic=True)
    return some


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
