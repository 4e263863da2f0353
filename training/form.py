"""The form of a model: how large it is and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from training.labels import HEADS

#: A step is told about this many steps before it: its place in the session counts up to here, and
#: so far back repeats are looked for.
CONTEXT: Final = 16

#: Steps within the context with the same item are counted up to one less than this.
REPEATS: Final = 8

KIND: Final = {head.name: head.kind for head in HEADS}

#: Which feature a token head foretells.
TOKEN_FEATURE: Final = {"next_category": "category", "next_item": "item"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The form of a model.

    Attributes:
        heads: What it says: names in `training.labels.HEADS`.
        width: D, of every vector between the layers.
        layers: Decoder layers.
        attention_heads: Of each layer; D is a multiple of twice their number.
        attention_window: Steps that a step attends to in a layer, itself included.
        hidden: Width of the feed-forward part.
        items: Most items with a row of their own; the others share `shared_items` rows.
        shared_items: Rows that unknown items are folded into.
        categories: Most categories with a row of their own.
        shared_categories: Rows that unknown categories are folded into.
        text_width: Length of the frozen text vectors of item titles; 0 for none.
        dropout: Share of the embedding that is dropped in training.
        nameless: Share of the paths whose items go by their text alone in training, so that the
            text is learned to be enough for a product that nobody has clicked yet.
    """

    heads: tuple[str, ...] = tuple(KIND)
    width: int = 32
    layers: int = 2
    attention_heads: int = 2
    attention_window: int = 17
    hidden: int = 64
    items: int = 50_000
    shared_items: int = 256
    categories: int = 5_000
    shared_categories: int = 64
    text_width: int = 0
    dropout: float = 0.2
    nameless: float = 0.3

    def __post_init__(self) -> None:
        if self.width % (2 * self.attention_heads):
            raise ValueError(
                f"width {self.width} is no multiple of twice {self.attention_heads} heads"
            )
        for head in self.heads:
            if head not in KIND:
                raise ValueError(f"there is no head {head!r}, there are {', '.join(KIND)}")

    @property
    def reach(self) -> int:
        """How many steps before the last one can change what is said after it."""
        return self.layers * (self.attention_window - 1) + CONTEXT
