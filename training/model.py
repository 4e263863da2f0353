"""The path Transformer, from the arrays of the encoder to the heads. Read it from top to bottom.

Shapes in the margins: B paths in a batch, T steps, D width, A = ACTION_COUNT, V known tokens.

A causal decoder: what it says after a step depends on that step and those before it, so one pass
over a path trains every step of it, and padding, which comes after the last step, needs no mask.
The layers are those of `transformers`' Mistral (RMS norm, gated feed-forward) at the size of a
shop's path: rotary positions (Su et al., "RoFormer", 2021), so that only distances count, and
attention to the last `attention_window` steps only (Beltagy et al., "Longformer", 2020).

The reach of an answer is bounded: `layers * (attention_window - 1)` steps back, and `CONTEXT` more
for what a step is told about those before it. Within the encoder's window this makes a pass over
the newest steps equal to one that has gone along a session from its first step (`PathModel.go_on`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, MistralConfig, MistralModel

from clickpath.encoding import GAP_BUCKETS, PRICE_BUCKETS
from clickpath.vocabulary import ACTION_COUNT
from training.form import CONTEXT, KIND, REPEATS, TOKEN_FEATURE, ModelConfig
from training.lookup import Lookup, Vocabulary

#: The softmax of this is 0 in single precision.
NEVER: Final = -1e4


class Step(NamedTuple):
    """What the encoder says of steps, each of shape (B, T), with tokens as rows of tables."""

    action: Tensor
    item: Tensor  # the hash
    item_row: Tensor
    category_row: Tensor
    price: Tensor
    gap: Tensor
    position: Tensor


class Embedding(nn.Module):
    """A step as one vector: the sum of what each feature adds."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        width = config.width
        self.items = Lookup(vocabulary.items, config.shared_items)
        self.categories = Lookup(vocabulary.categories, config.shared_categories)
        self.action = nn.Embedding(ACTION_COUNT, width)
        self.item = nn.Embedding(self.items.rows, width)
        self.category = nn.Embedding(self.categories.rows, width)
        self.price = nn.Embedding(PRICE_BUCKETS, width)
        self.gap = nn.Embedding(GAP_BUCKETS, width)
        self.position = nn.Embedding(CONTEXT + 1, width)
        self.repeats = nn.Embedding(REPEATS, width)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.1)
        self.nameless = config.nameless
        self.text: nn.Linear | None = None
        if config.text_width:
            # (rows, E), frozen; zeros for items without a title
            self.register_buffer("titles", torch.zeros(self.items.rows, config.text_width))
            self.text = nn.Linear(config.text_width, width, bias=False)

    def read(self, paths: Tensor) -> Step:
        """The features of paths (B, 6, T), tokens looked up, the place in the session bounded."""
        action, item, category, price, gap, position = paths.unbind(1)  # each (B, T)
        return Step(
            action,
            item,
            self.items(item),
            self.categories(category),
            price,
            gap,
            position.clamp(max=CONTEXT),
        )

    def forward(self, step: Step, repeats: Tensor) -> Tensor:
        """Steps and their repeats, each (B, T) -> vectors (B, T, D)."""
        total: Tensor = (
            self.action(step.action)
            + self.item_vectors(step.item_row)
            + self.category(step.category_row)
            + self.price(step.price)
            + self.gap(step.gap)
            + self.position(step.position)
            + self.repeats(repeats)
        )
        return total

    def item_vectors(self, rows: Tensor) -> Tensor:
        """Rows (B, T) -> vectors (B, T, D): of the id and, where there is one, of the title."""
        vectors: Tensor = self.item(rows)
        if self.text is None:
            return vectors
        if self.training:
            named = torch.rand(len(rows), device=rows.device) >= self.nameless  # (B,)
            vectors = vectors * named[:, None, None]
        total: Tensor = vectors + self.text(self.get_buffer("titles")[rows])
        return total

    def token_table(self, feature: str) -> Tensor:
        """The vectors of the known tokens of a feature, row 0 among them: (V + 1, D)."""
        if feature == "category":
            return self.category.weight[: self.categories.known + 1]
        table = self.item.weight[: self.items.known + 1]
        if self.text is None:
            return table
        total: Tensor = table + self.text(self.get_buffer("titles")[: len(table)])
        return total


def before(values: Tensor, earlier: Tensor | None = None) -> Tensor:
    """For each step the values of the CONTEXT steps up to it: (B, T) -> (B, T, CONTEXT).

    The newest is last, which is the step's own; 0 where there is none.

    Args:
        values: Of T steps.
        earlier: Of the CONTEXT - 1 steps before them, where a pass goes on; else none.
    """
    if earlier is None:
        earlier = values.new_zeros(len(values), CONTEXT - 1)
    return torch.cat([earlier, values], 1).unfold(1, CONTEXT, 1)


def repeats(nearby: Tensor) -> Tensor:
    """How many steps of the context had the same item before: (B, T, CONTEXT) -> (B, T).

    An item that is looked at again tells more than which item it is, and it tells it for products
    that no training has seen.
    """
    item = nearby[..., -1]
    count = (nearby[..., :-1] == item[..., None]).sum(-1)
    return count.clamp(max=REPEATS - 1) * (item != 0)


class TokenHead(nn.Module):
    """Which known token comes next: likeness to its vector, popularity, and recency.

    A token that stands among the last CONTEXT steps gets a bonus, by how long ago it was and by
    what the model makes of the path: people come back to what they have seen.
    """

    def __init__(self, width: int, known: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(known + 1))
        self.recency = nn.Linear(width, CONTEXT)

    def forward(self, x: Tensor, table: Tensor, recent: Tensor) -> Tensor:
        """Logits of all known tokens.

        Args:
            x: Shape (..., D).
            table: Vectors of the tokens, shape (V + 1, D).
            recent: Rows of the last CONTEXT steps, shape (..., CONTEXT); rows beyond V are unknown
                tokens, which nobody can foretell.

        Returns:
            Shape (..., V + 1); row 0, which is no token, is never next.
        """
        logits = self.project(x) @ table.T + self.bias  # (..., V + 1)
        rows = recent * (recent < len(table))
        logits = logits.scatter_add(-1, rows, self.recency(x))
        return torch.cat([torch.full_like(logits[..., :1], NEVER), logits[..., 1:]], -1)

    def some(self, x: Tensor, table: Tensor, recent: Tensor, rows: Tensor) -> Tensor:
        """`forward` for a few tokens: x (N, D), rows (N, K) or (K,) for all alike -> (N, K)."""
        vectors, bias = table[rows], self.bias[rows]
        query = self.project(x)  # (N, D)
        likeness = query @ vectors.T if rows.dim() == 1 else (vectors @ query[:, :, None])[..., 0]
        same = (recent[:, None, :] == rows[..., None]).to(x.dtype)  # (N, K, CONTEXT)
        bonus = (same @ self.recency(x)[:, :, None])[..., 0]
        total: Tensor = likeness + bias + bonus
        return total


class Memory(NamedTuple):
    """What a pass has to remember to go on: bounded, however long the session."""

    cache: DynamicCache  # keys and values of the last attention_window - 1 steps of each layer
    items: Tensor  # (B, CONTEXT - 1) hashes
    item_rows: Tensor  # (B, CONTEXT - 1)
    category_rows: Tensor  # (B, CONTEXT - 1)


class States(NamedTuple):
    """What the trunk makes of paths."""

    x: Tensor  # (B, T, D)
    item_rows: Tensor  # (B, T, CONTEXT)
    category_rows: Tensor  # (B, T, CONTEXT)

    def at(self, chosen: Tensor) -> States:
        """The states of some steps, N of them, by a mask (B, T)."""
        return States(*(each[chosen] for each in self))


class PathModel(nn.Module):
    """Says after every step of a path what its user will do."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config, vocabulary)
        self.dropout = nn.Dropout(config.dropout)
        self.trunk = MistralModel(decoder_config(config))
        del self.trunk.embed_tokens  # paths are embedded above; there is no text
        self.heads = nn.ModuleDict()
        known = {"item": self.embed.items.known, "category": self.embed.categories.known}
        for name in config.heads:
            if KIND[name] == "token":
                self.heads[name] = TokenHead(config.width, known[TOKEN_FEATURE[name]])
            else:
                size = ACTION_COUNT if KIND[name] == "action" else 1
                self.heads[name] = nn.Linear(config.width, size)

    def forward(self, paths: Tensor) -> dict[str, Tensor]:
        """Logits of each head after each step.

        Args:
            paths: Shape (B, 6, T), int64, as the encoder makes them; padding at the end.

        Returns:
            By head: (B, T, A) for actions, (B, T) for yes or no, (B, T, V + 1) for tokens.
        """
        states = self.states(paths)
        return {name: self.say(name, states) for name in self.config.heads}

    def states(self, paths: Tensor) -> States:
        """What the trunk makes of each step, for the heads: see `forward`."""
        step = self.embed.read(paths)
        x = self.dropout(self.embed(step, repeats(before(step.item))))  # (B, T, D)
        x = self.trunk(inputs_embeds=x, use_cache=False).last_hidden_state  # (B, T, D)
        return States(x, before(step.item_row), before(step.category_row))

    def go_on(self, paths: Tensor, memory: Memory | None = None) -> tuple[States, Memory]:
        """`states` for the steps that follow those which `memory` was left by.

        Costs as much as there are new steps, and says the same as a pass over the whole session.

        Args:
            paths: The new steps, shape (B, 6, T), without padding.
            memory: What the pass before left; None where the session begins. It is used up.
        """
        step = self.embed.read(paths)
        if memory is None:
            none = step.item.new_zeros(len(paths), CONTEXT - 1)
            memory = Memory(DynamicCache(config=self.trunk.config), none, none, none)
        nearby = before(step.item, memory.items)
        item_rows = before(step.item_row, memory.item_rows)
        category_rows = before(step.category_row, memory.category_rows)
        x = self.dropout(self.embed(step, repeats(nearby)))
        x = self.trunk(inputs_embeds=x, past_key_values=memory.cache, use_cache=True)
        last = (each[:, -1, 1:] for each in (nearby, item_rows, category_rows))
        return States(x.last_hidden_state, item_rows, category_rows), Memory(memory.cache, *last)

    def say(self, name: str, states: States) -> Tensor:
        """The logits of one head, for states of any shape (..., D): see `forward`."""
        head = self.heads[name]
        if isinstance(head, TokenHead):
            total: Tensor = head(states.x, self.token_table(name), self.recent(name, states))
            return total
        logits: Tensor = head(states.x)
        return never_padding(logits) if KIND[name] == "action" else logits.squeeze(-1)

    @property
    def linear_heads(self) -> tuple[str, ...]:
        """The heads that say what a matrix makes of a step's vector, and nothing else."""
        return tuple(name for name in self.config.heads if KIND[name] != "token")

    def recalled(self, x: Tensor, context: Tensor, rows: Tensor) -> States:
        """The states of last steps, for the heads, where the trunk was run by somebody else.

        Args:
            x: What the trunk made of them, (B, D).
            context: The CONTEXT steps up to each, its own last, (B, 6, CONTEXT).
            rows: Of their items and categories, (B, 2, CONTEXT).
        """
        return States(x, rows[:, 0], rows[:, 1])

    def token_table(self, name: str) -> Tensor:
        """The vectors that a token head chooses from, (V + 1, D)."""
        return self.embed.token_table(TOKEN_FEATURE[name])

    def tokens(self, name: str) -> Lookup:
        """Which tokens those are."""
        of_items = TOKEN_FEATURE[name] == "item"
        return self.embed.items if of_items else self.embed.categories

    def recent(self, name: str, states: States) -> Tensor:
        """The rows of the last steps that a token head looks at, (..., CONTEXT)."""
        return states.item_rows if TOKEN_FEATURE[name] == "item" else states.category_rows


def never_padding(logits: Tensor) -> Tensor:  # (..., A) -> (..., A)
    """Rules out entry 0, which is no action."""
    mask = torch.zeros(ACTION_COUNT, device=logits.device)
    mask[0] = NEVER
    return logits + mask


def decoder_config(config: ModelConfig) -> MistralConfig:
    """The decoder's configuration, in the words of `transformers`."""
    return MistralConfig(
        vocab_size=1,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.attention_heads,
        num_key_value_heads=config.attention_heads,
        head_dim=config.width // config.attention_heads,
        sliding_window=config.attention_window,
        max_position_embeddings=1024,
        rms_norm_eps=1e-6,
        hidden_act="relu",  # as good as the usual SiLU at this size, and cheaper to serve
        initializer_range=0.05,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
