"""What the simulated shop sells: categories, products, prices, popularity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from clickpath.events import Item
from clickpath.simulation.draws import Draws

_CATEGORIES: Final = (
    ("shoes", 6900),
    ("jackets", 11900),
    ("shirts", 2900),
    ("trousers", 4900),
    ("bags", 5900),
    ("watches", 14900),
    ("phones", 39900),
    ("laptops", 89900),
    ("headphones", 7900),
    ("cameras", 49900),
    ("kitchen", 3900),
    ("lamps", 4500),
    ("chairs", 8900),
    ("bedding", 5500),
    ("garden", 3500),
    ("tools", 4900),
    ("toys", 1900),
    ("books", 1500),
    ("games", 4900),
    ("cosmetics", 1700),
    ("bicycles", 59900),
    ("camping", 6900),
    ("pets", 1300),
    ("coffee", 1100),
)
_ITEMS_PER_CATEGORY: Final = 80


@dataclass(frozen=True, slots=True)
class Product:
    """One thing on sale.

    Attributes:
        item: As it stands in events, one piece of it.
        category: Index of its category.
        cheap: Whether it costs less than the middle of its category.
    """

    item: Item
    category: int
    cheap: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything on sale.

    Attributes:
        shelves: For each category, the most popular category first, its products, the most
            popular first.
        category_weights: Cumulative popularity of the categories (Zipf).
        product_weights: Cumulative popularity of the products of a shelf (Zipf).
    """

    shelves: tuple[tuple[Product, ...], ...]
    category_weights: tuple[float, ...]
    product_weights: tuple[float, ...]


@cache
def catalogue() -> Catalogue:
    """The shop's one catalogue: the shoppers depend on a seed, what is on sale does not."""
    draws = Draws(1)
    shelves = []
    for number, (name, middle_cents) in enumerate(_CATEGORIES):
        shelf = []
        for place in range(_ITEMS_PER_CATEGORY):
            # From 0.4 to 1.6 times the middle price, ending in 9.
            price_cents = int(middle_cents * (0.4 + 1.2 * draws.unit())) // 10 * 10 + 9
            item = Item(f"{name}-{place:03d}", name, price_cents)
            shelf.append(Product(item, number, price_cents < middle_cents))
        shelves.append(tuple(shelf))
    return Catalogue(tuple(shelves), _zipf(len(_CATEGORIES)), _zipf(_ITEMS_PER_CATEGORY))


def _zipf(count: int) -> tuple[float, ...]:
    total = 0.0
    cumulative = []
    for rank in range(count):
        total += 1.0 / (rank + 3)
        cumulative.append(total)
    return tuple(cumulative)
