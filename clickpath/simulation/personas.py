"""The kinds of shopper, in numbers, and the true effect of each intervention on each of them.

Odds are "to 1": odds of 0.25 are a probability of 0.2. Where several reasons meet, their odds
multiply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS

#: The kinds of intervention whose effect is known, in the order of the table of effects.
EFFECT_KINDS: Final = ("coupon", "recommendation", "reminder", "retention", "support", "guidance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """How one kind of shopper behaves.

    Attributes:
        name: What it is called.
        share_pct: How many of a hundred shoppers are of this kind.
        away_ms: Median silence between two visits.
        away_growth: What each visit does to that silence (above 1: the shopper drifts away).
        dwell_ms: Median time on a page.
        stays: Odds of looking at one more list after each list.
        looks: Most products opened from one list.
        login: Odds of logging in on arrival.
        promotions: Odds of looking at a promotion on arrival.
        searches: Odds of searching rather than leafing through lists.
        compares: Odds of going back to the favourite of the shelf after each product.
        wishes: Odds of putting a product that was not bought on the wish list.
        adds: Odds of putting a product into the cart.
        adds_known: What having seen that product before does to these odds.
        adds_cheap: What a low price does to them, and a high one the other way.
        removes: Odds of taking something out again when looking at the cart.
        checks_out: Odds of going to the checkout when looking at the cart.
        waits_for_coupon: What a cart without a coupon does to these odds.
        pays: Odds of buying at the last step of the checkout.
        fails: Odds that a payment fails and has to be entered again.
        asks: Odds of asking support after each failure.
        refunds: Odds of sending the last order back at the next visit.
    """

    name: str
    share_pct: int
    away_ms: int = _DAY_MS
    away_growth: float = 1.0
    dwell_ms: int = 20_000
    stays: float = 0.9
    looks: int = 3
    login: float = 0.3
    promotions: float = 0.1
    searches: float = 0.4
    compares: float = 0.15
    wishes: float = 0.08
    adds: float = 0.06
    adds_known: float = 2.0
    adds_cheap: float = 1.2
    removes: float = 0.15
    checks_out: float = 0.8
    waits_for_coupon: float = 1.0
    pays: float = 4.0
    fails: float = 0.05
    asks: float = 0.1
    refunds: float = 0.04


PERSONAS: Final = (
    Persona(
        name="window_shopper",
        share_pct=26,
        dwell_ms=12_000,
        stays=1.5,
        looks=3,
        login=0.1,
        searches=0.15,
        wishes=0.25,
        adds=0.015,
        removes=0.6,
        checks_out=0.2,
    ),
    Persona(
        name="bargain_hunter",
        share_pct=20,
        promotions=2.5,
        adds=0.07,
        adds_cheap=3.5,
        removes=0.4,
        waits_for_coupon=0.15,
    ),
    Persona(
        name="loyal_buyer",
        share_pct=12,
        away_ms=_DAY_MS * 3 // 2,
        dwell_ms=15_000,
        stays=0.5,
        looks=2,
        login=5.0,
        searches=2.0,
        compares=0.05,
        adds=0.2,
        adds_known=4.0,
        removes=0.05,
        checks_out=3.0,
        pays=12.0,
        refunds=0.02,
    ),
    Persona(
        name="researcher",
        share_pct=17,
        away_ms=10 * _HOUR_MS,
        dwell_ms=45_000,
        stays=0.8,
        searches=1.0,
        compares=1.8,
        adds=0.004,
        adds_known=11.0,
        checks_out=1.5,
        pays=8.0,
    ),
    Persona(
        name="struggler",
        share_pct=10,
        dwell_ms=40_000,
        stays=0.7,
        searches=1.2,
        adds=0.14,
        checks_out=2.5,
        pays=2.0,
        fails=2.0,
        asks=1.2,
    ),
    Persona(
        name="churner",
        share_pct=10,
        away_growth=1.5,
        stays=0.5,
        login=0.6,
        adds=0.07,
        refunds=0.35,
    ),
    Persona(
        name="newcomer",
        share_pct=5,
        away_ms=2 * _DAY_MS,
        away_growth=1.2,
        stays=0.4,
        looks=2,
        login=0.0,
        promotions=0.5,
        adds=0.04,
        fails=0.3,
    ),
)

#: What receiving an intervention does to the odds of every step towards a purchase - into the cart,
#: to the checkout, through the payment - for the rest of the visit. `retention` also divides the
#: silence before the next visit by the same number. Below 1 it annoys. Columns: `EFFECT_KINDS`.
_EFFECTS: Final = {
    #                coupon  recommendation  reminder  retention  support  guidance
    "window_shopper": (1.3, 1.4, 0.9, 1.0, 0.9, 1.0),
    "bargain_hunter": (3.0, 1.1, 1.3, 1.2, 1.0, 1.0),
    "loyal_buyer": (1.0, 1.3, 1.2, 1.0, 1.0, 0.9),
    "researcher": (1.2, 1.8, 1.6, 1.1, 1.1, 1.2),
    "struggler": (1.0, 1.0, 1.1, 1.0, 3.0, 2.0),
    "churner": (1.4, 1.1, 1.1, 2.0, 1.3, 1.0),
    "newcomer": (1.6, 1.3, 1.2, 1.1, 1.2, 1.8),
}

EFFECTS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        persona: MappingProxyType(dict(zip(EFFECT_KINDS, row, strict=True)))
        for persona, row in _EFFECTS.items()
    }
)

#: From the third intervention in one visit each multiplies the odds by this as well.
CROWDING: Final = 0.7


def true_effect(persona: str, kind: str) -> float:
    """The odds ratio with which one intervention changes each step towards a purchase.

    Args:
        persona: Name of a persona.
        kind: Kind of an intervention; one that is not in `EFFECT_KINDS` has no effect.

    Returns:
        1 for no effect, above 1 for more purchases.
    """
    return EFFECTS[persona].get(kind, 1.0)
