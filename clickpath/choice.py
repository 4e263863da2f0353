"""One choice among the allowed kinds: greedy by priority, with some exploration.

The probabilities are exact. Whatever the luck, the choice that is made has the probability that
its action set says, so that inverse propensity weighting is unbiased (Horvitz and Thompson, 1952).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from clickpath.ids import draw
from clickpath.policy import NOTHING, Kind, Offer
from clickpath.scores import Scores

#: Pairs of a choice - `nothing` or `kind/offer` - and its probability; they sum to 1.
ActionSet = tuple[tuple[str, float], ...]


class Choice(NamedTuple):
    """A kind with one of its offers."""

    kind: Kind
    offer: Offer

    @property
    def name(self) -> str:
        """How it is called in an action set."""
        return f"{self.kind.name}/{self.offer.offer_id}"


def greedy_kind(allowed: Sequence[Kind], scores: Scores | None) -> Kind | None:
    """The first kind whose thresholds all hold; without scores, the first kind."""
    return next((kind for kind in allowed if scores is None or _passes(kind, scores)), None)


def _passes(kind: Kind, scores: Scores) -> bool:
    for name, band in kind.scores:
        value = scores.purchase if name == "purchase" else scores.of(name.removeprefix("next."))
        if not band.holds(value):
            return False
    return True


def action_set(allowed: Sequence[Kind], greedy: Kind | None, explore_pct: float) -> ActionSet:
    """Every choice with its probability: an even share of the exploration, and the rest."""
    if not allowed:
        return ((NOTHING, 1.0),)
    explore = explore_pct / 100.0
    share = explore / (1 + len(allowed))
    pairs = [(NOTHING, share + (1.0 - explore if greedy is None else 0.0))]
    for kind in allowed:
        rest = 1.0 - explore if kind is greedy else 0.0
        count = len(kind.offers)
        for n, offer in enumerate(kind.offers):
            taken = rest / count if kind.draw_offer else rest if n == 0 else 0.0
            pairs.append((f"{kind.name}/{offer.offer_id}", share / count + taken))
    return tuple(pairs)


def explored(allowed: Sequence[Kind], key: str) -> Choice | None:
    """A kind, or nothing, and an offer, drawn evenly; `key` is the decision's id."""
    n = int(draw("kind", key) * (1 + len(allowed)))
    return Choice(allowed[n], _drawn_offer(allowed[n], key)) if n < len(allowed) else None


def exploited(greedy: Kind | None, key: str) -> Choice | None:
    """The greedy kind with its offer; `key` is the decision's id."""
    if greedy is None:
        return None
    return Choice(greedy, _drawn_offer(greedy, key) if greedy.draw_offer else greedy.offers[0])


def _drawn_offer(kind: Kind, key: str) -> Offer:
    count = len(kind.offers)
    return kind.offers[int(draw("offer", key) * count) if count > 1 else 0]
