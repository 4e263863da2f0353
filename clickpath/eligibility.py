"""Rules on the path, and their compiled form.

They run for every event, so that they have to be cheap. Kinds are indexed by the newest action
first: most events end there, at the price of one lookup. What is left of a kind's rules is a tuple
of closures, the cheap ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from clickpath.errors import ConfigError
from clickpath.summary import NO_ABSENCE, OpenSummary, Summary, cart_pieces, cart_value_cents
from clickpath.vocabulary import ACTION_COUNT, ACTION_ID


class Band(NamedTuple):
    """A range of numbers, both ends inclusive; None leaves an end open."""

    min: float | None = None
    max: float | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the band."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


#: Pairs of a canonical action and a band, in order of action id.
ActionBands = tuple[tuple[str, Band], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a kind is eligible: all of it has to hold. None and empty mean no condition.

    Attributes:
        after: The newest step must be one of these actions; at least one.
        session_events: Steps in the current session, the newest included.
        session_number: 1 in the user's first session.
        session_age_ms: From the session's first step to now.
        absence_ms: The silence before the current session; does not hold in a first session.
        lifetime_events: Steps ever.
        revenue_cents: Purchases minus refunds, ever.
        cart_value_cents: Worth of the cart.
        cart_pieces: Pieces in the cart.
        session_counts: Steps of an action in the current session.
        lifetime_counts: Steps of an action ever.
        since_ms: From the last step of an action to now; "never" is longer than any time.
    """

    after: tuple[str, ...]
    session_events: Band | None = None
    session_number: Band | None = None
    session_age_ms: Band | None = None
    absence_ms: Band | None = None
    lifetime_events: Band | None = None
    revenue_cents: Band | None = None
    cart_value_cents: Band | None = None
    cart_pieces: Band | None = None
    session_counts: ActionBands = ()
    lifetime_counts: ActionBands = ()
    since_ms: ActionBands = ()

    def __post_init__(self) -> None:
        named = (*self.after, *(a for a, _ in self.session_counts + self.lifetime_counts))
        for action in (*named, *(a for a, _ in self.since_ms)):
            if action not in ACTION_ID:
                raise ConfigError(f"{action!r} is no action")
        if not self.after:
            raise ConfigError("a kind has to name at least one action that it may come after")


#: The fold of a path's steps, be it finished or still being written.
Tip = Summary | OpenSummary

#: Whether one rule holds: (tip, now in epoch milliseconds) -> bool.
Check = Callable[[Tip, int], bool]

#: For each action id the kinds that may come after it, the greatest priority first.
Index = tuple[tuple[tuple[str, tuple[Check, ...]], ...], ...]

_INFINITY: Final = float("inf")


def compile_rules(kinds: Iterable[tuple[str, Rules]]) -> Index:
    """The index of kinds: pairs of name and rules, the greatest priority first."""
    index: list[list[tuple[str, tuple[Check, ...]]]] = [[] for _ in range(ACTION_COUNT)]
    for name, rules in kinds:
        checks = tuple(_checks(rules))
        for action in rules.after:
            index[ACTION_ID[action]].append((name, checks))
    return tuple(tuple(candidates) for candidates in index)


def eligible_kinds(index: Index, action: int, tip: Tip, now_ms: int) -> tuple[str, ...]:
    """Names of the kinds whose rules all hold, the greatest priority first.

    Args:
        index: The rules.
        action: Action id of the path's newest step.
        tip: The fold of its steps.
        now_ms: Time of the newest step.
    """
    candidates = index[action]
    if not candidates:
        return ()
    kinds: tuple[str, ...] = ()
    for name, checks in candidates:
        for check in checks:
            if not check(tip, now_ms):
                break
        else:
            kinds = (*kinds, name)
    return kinds


def _checks(rules: Rules) -> list[Check]:
    """The rules other than `after`, as closures; the order is that of their cost."""
    checks: list[Check] = []
    for band, make in (
        (rules.session_number, _session_number),
        (rules.lifetime_events, _lifetime_events),
        (rules.revenue_cents, _revenue),
        (rules.session_age_ms, _session_age),
    ):
        if band is not None:
            checks.append(make(*_ends(band)))
    for action, band in rules.session_counts:
        checks.append(_session_count(ACTION_ID[action], *_ends(band)))
    for action, band in rules.lifetime_counts:
        checks.append(_lifetime_count(ACTION_ID[action], *_ends(band)))
    for action, band in rules.since_ms:
        checks.append(_since(ACTION_ID[action], *_ends(band)))
    for band, make in (
        (rules.session_events, _session_events),
        (rules.cart_pieces, _cart_pieces),
        (rules.cart_value_cents, _cart_value),
        (rules.absence_ms, _absence),
    ):
        if band is not None:
            checks.append(make(*_ends(band)))
    return checks


def _ends(band: Band) -> tuple[float, float]:
    least, most = band
    return (-_INFINITY if least is None else least, _INFINITY if most is None else most)


def _session_number(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= tip.sessions <= most


def _lifetime_events(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= tip.events <= most


def _revenue(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= tip.revenue_cents <= most


def _session_age(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= now_ms - tip.session_start_ms <= most


def _session_events(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= tip.events - sum(tip.counts_before_session) <= most


def _cart_pieces(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= cart_pieces(tip.cart) <= most


def _cart_value(least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= cart_value_cents(tip.cart) <= most


def _session_count(action: int, least: float, most: float) -> Check:
    def holds(tip: Tip, now_ms: int) -> bool:
        return least <= tip.counts[action] - tip.counts_before_session[action] <= most

    return holds


def _lifetime_count(action: int, least: float, most: float) -> Check:
    return lambda tip, now_ms: least <= tip.counts[action] <= most


def _since(action: int, least: float, most: float) -> Check:
    def holds(tip: Tip, now_ms: int) -> bool:
        if not tip.counts[action]:
            return most == _INFINITY
        return least <= now_ms - tip.last_by_action_ms[action] <= most

    return holds


def _absence(least: float, most: float) -> Check:
    return lambda tip, now_ms: tip.absence_ms != NO_ABSENCE and least <= tip.absence_ms <= most
