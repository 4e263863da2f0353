"""What a path comes to: a fold over its steps, every field of it bounded.

`Summary` is the finished value. `OpenSummary` is one that is being written: the same fields,
changed in place, for whoever adds many steps before anybody else looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from clickpath.steps import UNKNOWN_PRICE, Line, Step
from clickpath.vocabulary import ACTION_COUNT, ACTION_ID

#: The absence before a user's first session.
NO_ABSENCE: Final = -1

_ADD: Final = ACTION_ID["add_to_cart"]
_PURCHASE: Final = ACTION_ID["purchase"]
_REFUND: Final = ACTION_ID["refund"]


class Summary(NamedTuple):
    """A fold over steps, in order.

    Attributes:
        events: Number of steps folded.
        sessions: Number of sessions begun.
        revenue_cents: Purchases minus refunds.
        session_start_ms: Time of the current session's first step.
        absence_ms: The silence before the current session; `NO_ABSENCE` in the first.
        last_ms: Time of the last step.
        last_event: Event hash of the last step.
        counts: Lifetime number of steps, by action id.
        counts_before_session: What `counts` was when the current session began.
        last_by_action_ms: Time of the last step of each action, by action id; 0 for never.
        cart: What is in the cart, oldest product first.
    """

    events: int
    sessions: int
    revenue_cents: int
    session_start_ms: int
    absence_ms: int
    last_ms: int
    last_event: int
    counts: tuple[int, ...]
    counts_before_session: tuple[int, ...]
    last_by_action_ms: tuple[int, ...]
    cart: tuple[Line, ...]


_ZEROS: Final = (0,) * ACTION_COUNT
EMPTY_SUMMARY: Final = Summary(0, 0, 0, 0, NO_ABSENCE, 0, 0, _ZEROS, _ZEROS, _ZEROS, ())


def cart_value_cents(cart: Iterable[Line]) -> int:
    """Worth of a cart; products of unknown price count nothing."""
    return sum(line.quantity * line.price_cents for line in cart if line.price_cents > 0)


def cart_pieces(cart: Iterable[Line]) -> int:
    """Pieces in a cart."""
    return sum(line.quantity for line in cart)


class OpenSummary:
    """A summary that is being written; its attributes are those of `Summary`.

    Args:
        summary: Where to begin.
        session_gap_ms: The silence that ends a session.
        cart_lines: Most distinct products remembered in a cart.
    """

    __slots__ = (
        "_cart_lines",
        "_session_gap_ms",
        "absence_ms",
        "cart",
        "counts",
        "counts_before_session",
        "events",
        "last_by_action_ms",
        "last_event",
        "last_ms",
        "revenue_cents",
        "session_start_ms",
        "sessions",
    )

    def __init__(self, summary: Summary, session_gap_ms: int, cart_lines: int) -> None:
        (
            self.events,
            self.sessions,
            self.revenue_cents,
            self.session_start_ms,
            self.absence_ms,
            self.last_ms,
            self.last_event,
            counts,
            self.counts_before_session,
            last_by_action_ms,
            self.cart,
        ) = summary
        self.counts = list(counts)
        self.last_by_action_ms = list(last_by_action_ms)
        self._session_gap_ms = session_gap_ms
        self._cart_lines = cart_lines

    def add(self, step: Step) -> None:
        """Folds one more step, which must not be older than the last one."""
        ts_ms, action = step.ts_ms, step.action
        silence_ms = ts_ms - self.last_ms
        if not self.events:
            self.sessions, self.session_start_ms = 1, ts_ms
        elif silence_ms >= self._session_gap_ms:
            self.sessions += 1
            self.session_start_ms = ts_ms
            self.absence_ms = silence_ms
            self.counts_before_session = tuple(self.counts)
        self.events += 1
        self.last_ms = ts_ms
        self.last_event = step.event
        self.counts[action] += 1
        self.last_by_action_ms[action] = ts_ms
        if step.lines:
            self.cart = _cart_after(self.cart, action, step.lines, self._cart_lines)
        elif action == _PURCHASE:
            self.revenue_cents += step.value_cents
            self.cart = ()
        elif action == _REFUND:
            self.revenue_cents -= step.value_cents

    def summary(self) -> Summary:
        """The finished value as of now."""
        return Summary(
            self.events,
            self.sessions,
            self.revenue_cents,
            self.session_start_ms,
            self.absence_ms,
            self.last_ms,
            self.last_event,
            tuple(self.counts),
            self.counts_before_session,
            tuple(self.last_by_action_ms),
            self.cart,
        )


def _cart_after(
    cart: tuple[Line, ...], action: int, changes: Iterable[Line], most_lines: int
) -> tuple[Line, ...]:
    sign = 1 if action == _ADD else -1
    lines = {line.item_id: line for line in cart}
    for item_id, quantity, price_cents in changes:
        known = lines.pop(item_id, None)
        if known is not None:
            price_cents = known.price_cents if price_cents == UNKNOWN_PRICE else price_cents
        total = (known.quantity if known else 0) + sign * quantity
        if total > 0:
            lines[item_id] = Line(item_id, total, price_cents)
    return tuple(lines.values())[-most_lines:]
