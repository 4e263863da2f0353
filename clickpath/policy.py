"""The policy: which interventions exist, who may get them, and how one is chosen.

Rules

1.  A kind is *eligible* when its rules on the path hold. Rules look at the path alone.
2.  An eligible kind is *suppressed* while a cap or a cool-down holds it back, its own or the one
    over all kinds; and when there are no scores although it may not be sent without them.
3.  The *allowed set* is "nothing" and every kind that is eligible and not suppressed.
4.  The *greedy* choice is the allowed kind of the highest priority whose score thresholds all
    hold; a kind that may be sent without scores passes while there are none. If no kind passes it
    is "nothing".
5.  With probability `explore_pct` the choice is drawn evenly from the allowed set instead, and
    its offer evenly from the kind's offers, thresholds or not (epsilon-greedy: Sutton and Barto,
    "Reinforcement Learning", 2nd edition, 2.2).
6.  Users in the holdout get nothing. Who is in it depends on the salt and the user alone, so that
    it stays the same group when the rest of the policy changes.

Everything here is a frozen value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Final, NamedTuple

from clickpath.eligibility import Band, Index, Rules, compile_rules
from clickpath.errors import ConfigError

#: The kinds of intervention, each with its topic `interventions.<kind>`.
KINDS: Final = (
    "coupon",
    "recommendation",
    "reminder",
    "retention",
    "support",
    "guidance",
    "audience",
    "alert",
)

#: How the choice that sends nothing is called in an action set.
NOTHING: Final = "nothing"

#: Raised by hand whenever the same policy would decide differently from before.
_REVISION: Final = 1

Scalar = str | int | float | bool


class Cap(NamedTuple):
    """At most `most` interventions within any `per_ms` milliseconds (rolling window)."""

    most: int
    per_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One concrete choice in a kind.

    Attributes:
        offer_id: Unique within its kind.
        payload: What the consumer needs to act on it, in order of key.
    """

    offer_id: str
    payload: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of intervention.

    Attributes:
        name: One of `KINDS`.
        priority: The greatest goes first; unique within a policy.
        rules: When it is eligible.
        scores: Thresholds: pairs of a score's name and a band. The names are `purchase` and
            `next.<action>`.
        without_scores: Whether it may be sent, on its rules alone, when the model gave no answer.
        offers: At least one.
        draw_offer: Draw the offer evenly from `offers`; otherwise the first one is taken.
        caps: Per user, this kind only.
        cool_down_ms: Silence of this kind after one was sent; 0 for none.
        expires_after_ms: How long after its cause an intervention is still worth acting on.
        attach_cart: Whether the intervention lists what is in the cart.
    """

    name: str
    priority: int
    rules: Rules
    offers: tuple[Offer, ...]
    expires_after_ms: int
    scores: tuple[tuple[str, Band], ...] = ()
    without_scores: bool = False
    draw_offer: bool = False
    caps: tuple[Cap, ...] = ()
    cool_down_ms: int = 0
    attach_cart: bool = False

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise ConfigError(f"{self.name!r} is no kind of intervention")
        if not self.offers or len({o.offer_id for o in self.offers}) < len(self.offers):
            raise ConfigError(f"{self.name} needs offers with different ids")
        if self.expires_after_ms <= 0:
            raise ConfigError(f"{self.name} expires after {self.expires_after_ms} ms")

    @property
    def horizon_ms(self) -> int:
        """How long one that was sent matters to this kind."""
        return max((self.cool_down_ms, *(cap.per_ms for cap in self.caps)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be sent, to whom, and how it is chosen.

    Attributes:
        name: For people; not part of the digest.
        kinds: The greatest priority first.
        holdout_pct: Share of users, 0..100, who never get anything.
        holdout_salt: Choose another one to draw the holdout anew.
        explore_pct: Share of decisions, 0..100, that are drawn from the allowed set.
        caps: Per user, over all kinds together.
        cool_down_ms: Silence after any intervention; 0 for none.
        digest: 16 hexadecimal digits that change with the policy's meaning, not its layout.
        horizon_ms: How long anything that was sent matters to all kinds together.
        by_name: The kinds by name.
        index: The kinds' rules, compiled.
    """

    name: str
    kinds: tuple[Kind, ...]
    holdout_pct: float = 0.0
    holdout_salt: str = ""
    explore_pct: float = 0.0
    caps: tuple[Cap, ...] = ()
    cool_down_ms: int = 0
    digest: str = field(init=False)
    horizon_ms: int = field(init=False, repr=False, compare=False)
    by_name: Mapping[str, Kind] = field(init=False, repr=False, compare=False)
    index: Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for share in (self.holdout_pct, self.explore_pct):
            if not 0.0 <= share <= 100.0:
                raise ConfigError(f"{share} is no percentage between 0 and 100")
        kinds = tuple(sorted(self.kinds, key=lambda kind: -kind.priority))
        if len({k.name for k in kinds}) < len(kinds) or len({k.priority for k in kinds}) < len(
            kinds
        ):
            raise ConfigError("two kinds share their name or their priority")
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "by_name", MappingProxyType({kind.name: kind for kind in kinds}))
        horizon_ms = max((self.cool_down_ms, *(cap.per_ms for cap in self.caps)))
        object.__setattr__(self, "horizon_ms", horizon_ms)
        index = compile_rules((kind.name, kind.rules) for kind in kinds)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "digest", sha256(self.canonical_json().encode()).hexdigest()[:16])

    def canonical_json(self) -> str:
        """The policy's meaning, in one fixed form: what the digest is taken of."""
        meaning = {
            "revision": _REVISION,
            "kinds": [asdict(kind) for kind in self.kinds],
            "holdout_pct": self.holdout_pct,
            "holdout_salt": self.holdout_salt,
            "explore_pct": self.explore_pct,
            "caps": self.caps,
            "cool_down_ms": self.cool_down_ms,
        }
        return json.dumps(meaning, sort_keys=True, separators=(",", ":"))
