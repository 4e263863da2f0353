"""How one shopper behaves: a visit is a generator, read from top to bottom like a story.

What comes next depends on more than the last click - on the persona, on the mood of the visit, on
whether this product was seen before, on what waits in the cart, on how often the payment failed -
so that a model which reads the whole path can know more than one which counts pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from clickpath.events import Item
from clickpath.simulation.catalogue import Catalogue, Product
from clickpath.simulation.draws import Draws
from clickpath.simulation.personas import CROWDING, Persona, true_effect

#: Longest time on a page and shortest time away: a visit is a session, and a session a visit.
_LONGEST_DWELL_MS: Final = 20 * 60_000
_SHORTEST_AWAY_MS: Final = 45 * 60_000
_LONGEST_AWAY_MS: Final = 60 * 24 * 3_600_000

#: How much a visitor wants to buy today: just looking, open to it, came for it.
_MOODS: Final = (0.3, 1.0, 4.0)
_MOOD_WEIGHTS: Final = (0.5, 0.85, 1.0)

_REMEMBERED: Final = 24


class Deed(NamedTuple):
    """What a shopper does next: the part of a click that is neither its id nor its time."""

    action: str
    items: tuple[Item, ...] = ()
    value_cents: int | None = None
    type_name: str = ""


class Shopper:
    """One visitor of the shop.

    Args:
        user_id: The user id.
        persona: How the shopper behaves.
        draws: The shopper's own luck; nobody else uses it.
        shop: What is on sale.
    """

    __slots__ = (
        "_cart",
        "_coupon",
        "_crowd",
        "_draws",
        "_favourite",
        "_likes",
        "_mood",
        "_order",
        "_push",
        "_registered",
        "_return_sooner",
        "_seen",
        "_shop",
        "persona",
        "user_id",
        "visits",
    )

    def __init__(self, user_id: str, persona: Persona, draws: Draws, shop: Catalogue) -> None:
        self.user_id = user_id
        self.persona = persona
        self.visits = 0
        self._draws = draws
        self._shop = shop
        self._likes = draws.rank(shop.category_weights)
        self._registered = persona.login > 0
        self._seen: dict[str, Product] = {}
        self._favourite: Product | None = None
        self._cart: dict[str, Item] = {}
        self._coupon = False
        self._order: Deed | None = None
        self._mood = 1.0
        self._push = 1.0
        self._crowd = 0
        self._return_sooner = 1.0

    def respond(self, kind: str) -> None:
        """Receives an intervention: see `personas.EFFECTS` for what it does."""
        effect = true_effect(self.persona.name, kind)
        self._crowd += 1
        self._push *= effect if self._crowd < 3 else effect * CROWDING
        if kind == "retention":
            self._return_sooner *= effect
        elif kind == "coupon":
            self._coupon = True

    def dwell_ms(self) -> int:
        """Time until the next click of this visit."""
        return 500 + min(int(self._draws.about(self.persona.dwell_ms)), _LONGEST_DWELL_MS)

    def away_ms(self) -> int:
        """Time until the next visit; ends what interventions did to this one."""
        away = self._draws.about(self.persona.away_ms) / self._return_sooner
        for _ in range(min(self.visits, 8)):
            away *= self.persona.away_growth
        self._return_sooner = self._push = 1.0
        self._crowd = 0
        return _SHORTEST_AWAY_MS + min(int(away), _LONGEST_AWAY_MS)

    def visit(self) -> Iterator[Deed]:
        """The clicks of one visit; never none."""
        draws, persona = self._draws, self.persona
        self.visits += 1
        self._mood = _MOODS[draws.rank(_MOOD_WEIGHTS)]
        shelf = self._likes if draws.odds(1.5) else draws.rank(self._shop.category_weights)
        yield Deed("page_view")
        yield from self._arrive()
        if draws.odds(persona.promotions):
            yield Deed("view_promotion")
            if draws.odds(persona.promotions):
                yield Deed("select_promotion")
                self._mood *= 1.5
                self._coupon = self._coupon or draws.odds(0.2)
        if self._cart and draws.odds(self._mood):
            yield from self._look_at_cart()
        while True:
            bought = len(self._cart)
            yield from self._browse(shelf)
            if len(self._cart) > bought and draws.odds(2.0):
                yield from self._look_at_cart()
                if not self._cart:
                    return
            if not draws.odds(persona.stays):
                return
            if draws.odds(0.3):
                shelf = draws.rank(self._shop.category_weights)

    def _arrive(self) -> Iterator[Deed]:
        draws, persona = self._draws, self.persona
        if not self._registered:
            if draws.odds(0.15 * self._mood):
                self._registered = True
                yield Deed("sign_up")
        elif draws.odds(max(persona.login, 0.3)):
            yield Deed("login")
        if self._order is not None and draws.odds(persona.refunds):
            order, self._order = self._order, None
            if draws.odds(persona.asks):
                yield Deed("contact_support")
            yield Deed("refund", order.items, order.value_cents)
        elif draws.odds(0.04):
            yield Deed("other", type_name="newsletter_opened")

    def _browse(self, shelf: int) -> Iterator[Deed]:
        """One list, the products opened from it, and what becomes of them."""
        draws, persona = self._draws, self.persona
        if draws.odds(persona.searches * self._mood):
            yield Deed("search")
        yield Deed("view_item_list")
        looks = 1 + draws.below(persona.looks)
        for _ in range(looks):
            product = self._shop.shelves[shelf][draws.rank(self._shop.product_weights)]
            yield Deed("select_item", (product.item,))
            yield from self._look_at(product)
            favourite = self._favourite
            if favourite and favourite is not product and draws.odds(persona.compares):
                yield from self._look_at(favourite)

    def _look_at(self, product: Product) -> Iterator[Deed]:
        draws, persona = self._draws, self.persona
        items = (product.item,)
        yield Deed("view_item", items)
        odds = persona.adds * self._mood * self._push
        odds = odds * persona.adds_cheap if product.cheap else odds / persona.adds_cheap
        item_id = product.item.item_id
        if item_id in self._seen:
            odds *= persona.adds_known
            self._favourite = product
        elif self._favourite is None or draws.odds(0.2):
            self._favourite = product
        self._seen[item_id] = product
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if item_id not in self._cart and draws.odds(odds):
            piece = product.item
            if draws.odds(0.1):
                piece = replace(piece, quantity=2)
            self._cart[item_id] = piece
            yield Deed("add_to_cart", (piece,))
        elif draws.odds(persona.wishes):
            yield Deed("add_to_wishlist", items)

    def _look_at_cart(self) -> Iterator[Deed]:
        draws, persona = self._draws, self.persona
        yield self._cart_deed("view_cart")
        if draws.odds(persona.removes / self._mood):
            item_id = next(iter(self._cart))
            yield Deed("remove_from_cart", (self._cart.pop(item_id),))
            if not self._cart:
                return
        odds = persona.checks_out * self._mood * self._push
        if self._coupon:
            yield Deed("apply_coupon")
            odds *= 1.5
        else:
            odds *= persona.waits_for_coupon
        if draws.odds(odds):
            self._coupon = False
            yield from self._check_out()

    def _check_out(self) -> Iterator[Deed]:
        draws, persona = self._draws, self.persona
        yield self._cart_deed("begin_checkout")
        yield self._cart_deed("add_shipping_info")
        yield self._cart_deed("add_payment_info")
        failures = 0
        while draws.odds(persona.fails):
            failures += 1
            if draws.odds(persona.asks):
                yield Deed("contact_support")
            if not draws.odds(2.0 * self._push / failures):
                return
            yield self._cart_deed("add_payment_info")
        if draws.odds(persona.pays * self._push / (1 + failures)):
            self._order = self._cart_deed("purchase")
            self._cart.clear()
            self._favourite = None
            yield self._order

    def _cart_deed(self, action: str) -> Deed:
        items = tuple(self._cart.values())
        return Deed(action, items, sum((i.price_cents or 0) * i.quantity for i in items))
