"""The path Transformer, from the arrays of the encoder to the heads. Read it from top to bottom.

Shapes in the margins: B paths in a batch, T steps, D width, A = ACTION_COUNT.

A causal decoder: what it says after a step depends on that step and those before it, so one pass
over a path trains every step of it, and padding, which comes after the last step, needs no mask.
Positions are rotary (Su et al., "RoFormer", 2021), so only distances count. The decoder's layers
are those of `transformers`' Llama (RMS norm, gated feed-forward) at the size of a shop's path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from clickpath.encoding import GAP_BUCKETS, PRICE_BUCKETS, SESSION_POSITIONS
from clickpath.vocabulary import ACTION_COUNT

#: Steps seen before with the same item are counted up to this.
REPEATS: Final = 8

#: Padding is never the next action: the softmax of this is 0 in single precision.
_NEVER: Final = -1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The size of a model.

    Attributes:
        width: D, of every vector between the layers.
        layers: Decoder layers.
        heads: Attention heads of each; D is a multiple of them.
        hidden: Width of the feed-forward part.
        items: Rows of the item table; hashes are folded into it.
        categories: Rows of the category table.
        dropout: Share of the embedding that is dropped in training.
    """

    width: int = 32
    layers: int = 2
    heads: int = 2
    hidden: int = 64
    items: int = 2048
    categories: int = 128
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice {self.heads} heads")


class Embedding(nn.Module):
    """A step as one vector: the sum of what each feature adds."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.action = nn.Embedding(ACTION_COUNT, width)
        self.item = nn.Embedding(config.items, width)
        self.category = nn.Embedding(config.categories, width)
        self.price = nn.Embedding(PRICE_BUCKETS, width)
        self.gap = nn.Embedding(GAP_BUCKETS, width)
        self.position = nn.Embedding(SESSION_POSITIONS, width)
        self.repeats = nn.Embedding(REPEATS, width)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.1)

    def forward(self, paths: Tensor) -> Tensor:
        """Paths of shape (B, 6, T) -> vectors of shape (B, T, D)."""
        action, item, category, price, gap, position = paths.unbind(1)  # each (B, T)
        total: Tensor = (
            self.action(action)
            + self.item(fold(item, self.item.num_embeddings))
            + self.category(fold(category, self.category.num_embeddings))
            + self.price(price)
            + self.gap(gap)
            + self.position(position)
            + self.repeats(repeats(item))
        )
        return total


def fold(hashes: Tensor, rows: int) -> Tensor:
    """Row of a table for each hash; row 0 is for no hash at all."""
    return (1 + hashes % (rows - 1)) * (hashes != 0)


def repeats(item: Tensor) -> Tensor:
    """How many steps before had the same item, up to REPEATS - 1; shape (B, T).

    An item that is looked at again tells more than which item it is, and it tells it for products
    that no training has seen.
    """
    same = (item[:, :, None] == item[:, None, :]).float()  # (B, T, T)
    before = same.tril(-1).sum(2).clamp(max=REPEATS - 1).long()
    return before * (item != 0)


class PathModel(nn.Module):
    """Says after every step of a path what its user will do."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.trunk = LlamaModel(decoder_config(config))
        del self.trunk.embed_tokens  # paths are embedded above; there is no text
        self.next_action = nn.Linear(config.width, ACTION_COUNT)
        self.purchase = nn.Linear(config.width, 1)

    def forward(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the heads after each step.

        Args:
            paths: Shape (B, 6, T), int64, as the encoder makes them; padding at the end.

        Returns:
            Next action, shape (B, T, A), and purchase in the rest of the session, shape (B, T).
        """
        x = self.dropout(self.embed(paths))  # (B, T, D)
        x = self.trunk(inputs_embeds=x, use_cache=False).last_hidden_state  # (B, T, D)
        return never_padding(self.next_action(x)), self.purchase(x).squeeze(-1)


def never_padding(logits: Tensor) -> Tensor:  # (..., A) -> (..., A)
    """Rules out entry 0, which is no action."""
    mask = torch.zeros(ACTION_COUNT)
    mask[0] = _NEVER
    return logits + mask


def decoder_config(config: ModelConfig) -> LlamaConfig:
    """The decoder's configuration, in the words of `transformers`."""
    return LlamaConfig(
        vocab_size=1,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=1024,
        rms_norm_eps=1e-6,
        hidden_act="relu",  # as good as the usual SiLU at this size, and cheaper to serve
        initializer_range=0.05,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
