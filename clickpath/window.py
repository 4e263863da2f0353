"""The event-time window: one user's path as a pure function of the set of events.

Rules

1.  Steps are ordered by `(ts_ms, event hash)`. The order of arrival leaves no trace.
2.  The watermark is the newest event time minus `lateness_ms`. An event older than the watermark
    is late and changes nothing; an event at the watermark is still in time (inclusive).
3.  Steps older than the watermark are *settled*: nothing can come before them any more, so they
    are folded, in order, into `base`. The others are *pending*, and all of them are kept.
4.  `tip` is the fold of everything, settled and pending: what a decision looks at. It follows
    from the rest and is not stored.
5.  Of the settled steps only as many are kept as the last `steps` of the path need.
6.  An event id that a kept step has is a duplicate and changes nothing. Every event that is still
    in time has its earlier copy among the kept steps, so no duplicate inside the lateness bound
    is missed. Of two different events with one id the first to arrive stays.
7.  At most `pending_limit` steps are pending. A user who is faster than that settles early: the
    oldest pending step is folded, and what would come before it, or is a copy of it once it has
    been forgotten, is late from then on.

From 1 to 6 follows: for every order of arrival in which no event is late, and with any copies, the
state is equal, byte for byte. Rule 7 is the price of bounded memory.

The watermark follows Akidau et al., "The Dataflow Model", VLDB 2015, with the user's own newest
event as the clock; sessions are its session windows, with an inclusive gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from clickpath.errors import ConfigError
from clickpath.events import Click
from clickpath.steps import UNKNOWN_PRICE, Line, Step, step_of
from clickpath.vocabulary import ACTION_COUNT, ACTION_ID

_ADD: Final = ACTION_ID["add_to_cart"]
_PURCHASE: Final = ACTION_ID["purchase"]
_REFUND: Final = ACTION_ID["refund"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The bounds of a path.

    Attributes:
        steps: How many of the newest steps a model may see.
        lateness_ms: How far behind the user's newest event time an event may arrive.
        session_gap_ms: The silence that ends a session.
        pending_limit: Most steps that may wait for the watermark; bounds memory.
        cart_lines: Most distinct products remembered in a cart; bounds memory.
    """

    steps: int = 50
    lateness_ms: int = 10 * 60_000
    session_gap_ms: int = 30 * 60_000
    pending_limit: int = 512
    cart_lines: int = 50

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("lateness_ms", 0),
            ("session_gap_ms", 1),
            ("pending_limit", 1),
            ("cart_lines", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"window.{name} is {value}, must be at least {least}")


class Summary(NamedTuple):
    """A fold over steps, in order; every field is bounded.

    Attributes:
        events: Number of steps folded.
        sessions: Number of sessions begun.
        revenue_cents: Purchases minus refunds.
        session_start_ms: Time of the current session's first step.
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
    last_ms: int
    last_event: int
    counts: tuple[int, ...]
    counts_before_session: tuple[int, ...]
    last_by_action_ms: tuple[int, ...]
    cart: tuple[Line, ...]

    @property
    def cart_value_cents(self) -> int:
        """Worth of the cart; products of unknown price count nothing."""
        return sum(line.quantity * line.price_cents for line in self.cart if line.price_cents > 0)

    def in_session(self, action: int) -> int:
        """Number of steps of an action id within the current session."""
        return self.counts[action] - self.counts_before_session[action]

    @property
    def cart_pieces(self) -> int:
        """Pieces in the cart."""
        return sum(line.quantity for line in self.cart)


_ZEROS: Final = (0,) * ACTION_COUNT
EMPTY_SUMMARY: Final = Summary(0, 0, 0, 0, 0, 0, _ZEROS, _ZEROS, _ZEROS, ())


class PathState(NamedTuple):
    """One user's path.

    Attributes:
        steps: The kept steps, oldest first; the first `settled` of them are in `base`.
        settled: How many of the kept steps are settled.
        base: Fold of all settled steps, kept or not.
        tip: Fold of all steps; follows from the rest.
        hashes: The kept steps' event hashes in their order, `_HASH_BYTES` each; follows from
            `steps`, and is there to be searched faster than they are.
    """

    steps: tuple[Step, ...]
    settled: int
    base: Summary
    tip: Summary
    hashes: bytes


EMPTY_PATH: Final = PathState((), 0, EMPTY_SUMMARY, EMPTY_SUMMARY, b"")

_HASH_BYTES: Final = 8


class Verdict(Enum):
    """What became of an event that was pushed."""

    HEAD = "head"  # accepted; it is the newest step now
    INSERTED = "inserted"  # accepted, before newer steps
    DUPLICATE = "duplicate"
    LATE = "late"

    @property
    def accepted(self) -> bool:
        """Whether the event is part of the path now."""
        return self is Verdict.HEAD or self is Verdict.INSERTED


def push(state: PathState, click: Click, window: Window) -> tuple[PathState, Verdict]:
    """The path with one more event, and what became of it.

    Args:
        state: The user's path so far; `EMPTY_PATH` for a new user.
        click: An event of this user.
        window: The bounds.

    Returns:
        The new state - the very same object when the event is a duplicate or late - and the
        verdict.
    """
    return push_step(state, step_of(click), window)


def push_step(state: PathState, step: Step, window: Window) -> tuple[PathState, Verdict]:
    """`push` for a step that has been made already."""
    steps = state.steps
    event = step.event.to_bytes(_HASH_BYTES, "big")
    if not steps:
        tip = fold(EMPTY_SUMMARY, step, window)
        return PathState((step,), 0, EMPTY_SUMMARY, tip, event), Verdict.HEAD
    hashes = state.hashes
    if event in hashes and _has(hashes, event):
        return state, Verdict.DUPLICATE
    last = steps[-1]
    base = state.base
    # Steps compare by time, then by event hash, and no two kept ones share a hash.
    if step > last:
        tip = fold(state.tip, step, window)
        path = PathState(steps + (step,), state.settled, base, tip, hashes + event)
        return _settle(path, state.tip, window), Verdict.HEAD
    if step.ts_ms < last.ts_ms - window.lateness_ms or (
        # The very step is a copy of one that settled early and has been forgotten (rule 7).
        base.events and step[:2] <= (base.last_ms, base.last_event)
    ):
        return state, Verdict.LATE
    at = len(steps) - 1
    while at > state.settled and step < steps[at - 1]:
        at -= 1
    steps = steps[:at] + (step,) + steps[at:]
    return _settle(path_of(steps, state.settled, base, window), None, window), Verdict.INSERTED


def path_of(steps: tuple[Step, ...], settled: int, base: Summary, window: Window) -> PathState:
    """A path with what follows from its steps and the fold of the settled ones."""
    hashes = b"".join(step.event.to_bytes(_HASH_BYTES, "big") for step in steps)
    return PathState(steps, settled, base, fold_all(base, steps[settled:], window), hashes)


def _has(hashes: bytes, event: bytes) -> bool:
    """Whether one of the hashes is `event`, which may also lie across two of them."""
    at = hashes.find(event)
    while at % _HASH_BYTES and at > 0:
        at = hashes.find(event, at + 1)
    return at >= 0


def _settle(path: PathState, before_last: Summary | None, window: Window) -> PathState:
    """Folds what the watermark has passed, and forgets what nobody needs (rules 3, 5 and 7).

    Args:
        path: The path.
        before_last: Fold of all its steps but the last, where it is known.
        window: The bounds.
    """
    steps, settled, base = path.steps, path.settled, path.base
    kept = len(steps)
    watermark_ms = steps[-1].ts_ms - window.lateness_ms
    upto = max(settled, kept - window.pending_limit)
    while upto < kept and steps[upto].ts_ms < watermark_ms:
        upto += 1
    if upto > settled:
        # The common case after a silence: all but the newest step settle, and their fold is known.
        if before_last is not None and upto == kept - 1:
            base = before_last
        else:
            base = fold_all(base, steps[settled:upto], window)
    drop = min(upto, kept - window.steps)
    if drop > 0:
        hashes = path.hashes[drop * _HASH_BYTES :]
        return PathState(steps[drop:], upto - drop, base, path.tip, hashes)
    if upto == settled:
        return path
    return PathState(steps, upto, base, path.tip, path.hashes)


def fold_all(summary: Summary, steps: Iterable[Step], window: Window) -> Summary:
    """`fold` for several steps, in order."""
    for step in steps:
        summary = fold(summary, step, window)
    return summary


def fold(summary: Summary, step: Step, window: Window) -> Summary:
    """The summary with one more step, which must not be older than the last one folded."""
    (events, sessions, revenue, start_ms, last_ms, _, counts, before, last_by, cart) = summary
    action, ts_ms = step.action, step.ts_ms
    if not events or ts_ms - last_ms >= window.session_gap_ms:
        sessions += 1
        start_ms = ts_ms
        before = counts
    after = action + 1
    if step.lines:
        cart = _cart_after(cart, step, window.cart_lines)
    elif action == _PURCHASE:
        revenue += step.value_cents
        cart = ()
    elif action == _REFUND:
        revenue -= step.value_cents
    return Summary(
        events + 1,
        sessions,
        revenue,
        start_ms,
        ts_ms,
        step.event,
        counts[:action] + (counts[action] + 1,) + counts[after:],
        before,
        last_by[:action] + (ts_ms,) + last_by[after:],
        cart,
    )


def _cart_after(cart: tuple[Line, ...], step: Step, most_lines: int) -> tuple[Line, ...]:
    sign = 1 if step.action == _ADD else -1
    lines = {line.item_id: line for line in cart}
    for item_id, quantity, price_cents in step.lines:
        known = lines.pop(item_id, None)
        if known is not None:
            price_cents = known.price_cents if price_cents == UNKNOWN_PRICE else price_cents
        total = (known.quantity if known else 0) + sign * quantity
        if total > 0:
            lines[item_id] = Line(item_id, total, price_cents)
    return tuple(lines.values())[-most_lines:]
