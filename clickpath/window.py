"""The event-time window: one user's path as a pure function of the set of events.

Rules

1.  Steps are ordered by `(ts_ms, event hash)`. The order of arrival leaves no trace.
2.  The watermark is the newest event time minus `lateness_ms`. An event older than the watermark
    is late and changes nothing; an event at the watermark is still in time (inclusive).
3.  Steps older than the watermark are *settled*: nothing can come before them any more, so they
    are folded, in order, into `base`, and give up their cart lines, which nobody needs any more.
    The others are *pending*, and all of them are kept.
4.  `tip` is the fold of everything, settled and pending: what a decision looks at. It follows
    from the rest and is not stored.
5.  Of the settled steps only as many are kept as the last `steps` of the path need.
6.  An event id that a kept step has is a duplicate and changes nothing. Every event that is still
    in time has its earlier copy among the kept steps, so no duplicate inside the lateness bound
    is missed. Of two different events with one id the first to arrive stays.
7.  At most `pending_limit` steps are pending, with as many cart lines all in all. A user who is
    faster than that settles early: the oldest pending step is folded, and what would come before
    it, or is a copy of it once it has been forgotten, is late from then on.

From 1 to 6 follows: for every order of arrival in which no event is late, and with any copies, the
state is equal, byte for byte. Rule 7 is the price of bounded memory.

The watermark follows Akidau et al., "The Dataflow Model", VLDB 2015, with the user's own newest
event as the clock; sessions are its session windows, with an inclusive gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from clickpath.errors import ConfigError
from clickpath.events import Click
from clickpath.steps import (
    HASH_BYTES,
    NUMBERS_BYTES,
    Step,
    pack_hashes,
    pack_numbers,
    step_of,
    unpack_hashes,
)
from clickpath.summary import EMPTY_SUMMARY, OpenSummary, Summary

#: From how many steps on a set is quicker than a search through the hashes.
_MANY_STEPS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The bounds of a path.

    Attributes:
        steps: How many of the newest steps a model may see.
        lateness_ms: How far behind the user's newest event time an event may arrive.
        session_gap_ms: The silence that ends a session.
        pending_limit: Most steps, and most cart lines of them, that may wait for the watermark;
            bounds memory.
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


class PathState(NamedTuple):
    """One user's path.

    Attributes:
        steps: The kept steps, oldest first; the first `settled` of them are in `base`.
        settled: How many of the kept steps are settled.
        base: Fold of all settled steps, kept or not.
        tip: Fold of all steps; follows from the rest.
        hashes: The kept steps' event hashes in their order, `HASH_BYTES` each; follows from
            `steps`, and is there to be searched faster than they are.
        numbers: The kept steps' other numbers as bytes of `pack_numbers` in their order; follows
            from `steps`, and is there to be stored without a look at each of them.
        pending_lines: Cart lines of the pending steps; follows from `steps`.
    """

    steps: tuple[Step, ...]
    settled: int
    base: Summary
    tip: Summary
    hashes: bytes
    numbers: bytes
    pending_lines: int


EMPTY_PATH: Final = PathState((), 0, EMPTY_SUMMARY, EMPTY_SUMMARY, b"", b"", 0)


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
    path = OpenPath(state, window)
    verdict = path.push(step)
    return path.state(), verdict


class OpenPath:
    """A path that is being written: pushes change it in place, `state` gives the value.

    Whoever pushes several events of a user before anybody else looks saves a copy of the path for
    each. In between, settling (rules 3, 5 and 7) is put off; whatever depends on it - what a copy
    or an event out of order becomes, and the value - settles first, so that no answer depends on
    when a value was taken.

    Args:
        state: Where to begin.
        window: The bounds.

    Attributes:
        tip: The fold of all steps.
    """

    __slots__ = (
        "_base",
        "_hashes",
        "_known",
        "_numbers",
        "_pending_lines",
        "_settled",
        "_state",
        "_steps",
        "_summed",
        "_window",
        "tip",
    )

    def __init__(self, state: PathState, window: Window) -> None:
        steps, self._settled, self._base, tip, self._hashes, numbers, self._pending_lines = state
        self._steps = list(steps)
        self._numbers = bytearray(numbers)
        # A filter for a user with many steps, of whom many more are to be expected: it may still
        # have events that were forgotten, and `_has` knows better.
        self._known = set(unpack_hashes(self._hashes)) if len(steps) >= _MANY_STEPS else None
        self._window = window
        self._state: PathState | None = state
        # The fold of so many steps, known without folding them again.
        self._summed = (len(steps), tip)
        self.tip = _opened(tip, window)

    @property
    def last(self) -> Step:
        """The newest step; there must be one."""
        return self._steps[-1]

    def push(self, step: Step) -> Verdict:
        """Takes one more event in, and says what became of it."""
        event = step.event.to_bytes(HASH_BYTES, "big")
        steps = self._steps
        if steps:
            known = self._known
            if known is None:
                seen = event in self._hashes
            else:
                seen = step.event in known
                known.add(step.event)
            if seen and self._has(event):
                return Verdict.DUPLICATE
            # Steps compare by time, then by event hash, and no two kept ones share a hash.
            if step < steps[-1]:
                return self._insert(step)
        steps.append(step)
        self._hashes += event
        self._numbers += pack_numbers(step)
        if step.lines:
            self._pending_lines += len(step.lines)
        self.tip.add(step)
        self._state = None
        return Verdict.HEAD

    def state(self) -> PathState:
        """The path as of now; the very same object while nothing is accepted."""
        state = self._state
        if state is None:
            self._settle()
            state = self._state = PathState(
                tuple(self._steps),
                self._settled,
                self._base,
                self.tip.summary(),
                self._hashes,
                bytes(self._numbers),
                self._pending_lines,
            )
        return state

    def view(self) -> PathState:
        """What a decision looks at: the newest `steps` of the path and the fold of all of them.

        A path on which nothing can be inserted any more: all its steps are settled.
        """
        steps = self._steps[-self._window.steps :]
        kept = len(steps)
        if self._pending_lines:
            steps = [step._replace(lines=()) if step.lines else step for step in steps]
        tip = self.tip.summary()
        hashes = self._hashes[-kept * HASH_BYTES :]
        numbers = bytes(self._numbers[-kept * NUMBERS_BYTES :])
        return PathState(tuple(steps), kept, tip, tip, hashes, numbers, 0)

    def _has(self, event: bytes) -> bool:
        """Whether one of the kept hashes is `event`, which may also lie across two of them."""
        self._settle()
        hashes = self._hashes
        at = hashes.find(event)
        while at % HASH_BYTES and at > 0:
            at = hashes.find(event, at + 1)
        return at >= 0

    def _insert(self, step: Step) -> Verdict:
        self._settle()
        steps, base, settled = self._steps, self._base, self._settled
        if step.ts_ms < steps[-1].ts_ms - self._window.lateness_ms or (
            # The very step is a copy of one that settled early and has been forgotten (rule 7).
            base.events and step[:2] <= (base.last_ms, base.last_event)
        ):
            return Verdict.LATE
        at = len(steps) - 1
        while at > settled and step < steps[at - 1]:
            at -= 1
        steps.insert(at, step)
        self._hashes = pack_hashes(steps)
        self._numbers[at * NUMBERS_BYTES : at * NUMBERS_BYTES] = pack_numbers(step)
        self._pending_lines += len(step.lines)
        self.tip = _opened(base, self._window)
        for each in steps[settled:]:
            self.tip.add(each)
        self._summed = (settled, base)
        self._state = None
        return Verdict.INSERTED

    def _settle(self) -> None:
        """Folds what the watermark has passed, and forgets what nobody needs (rules 3, 5, 7)."""
        steps, settled, window = self._steps, self._settled, self._window
        kept = len(steps)
        watermark_ms = steps[-1].ts_ms - window.lateness_ms
        upto = max(settled, kept - window.pending_limit)
        while upto < kept and steps[upto].ts_ms < watermark_ms:
            upto += 1
        if self._pending_lines > window.pending_limit:
            upto = max(upto, self._first_within(window.pending_limit))
        if upto > settled:
            known, summary = self._summed
            if not settled < known <= upto:
                known, summary = settled, self._base
            self._base = fold_all(summary, steps[known:upto], window)
            self._summed = (upto, self._base)
            if self._pending_lines:
                for at in range(settled, upto):
                    if lines := steps[at].lines:
                        self._pending_lines -= len(lines)
                        steps[at] = steps[at]._replace(lines=())
        drop = min(upto, kept - window.steps)
        if drop > 0:
            del steps[:drop]
            self._hashes = self._hashes[drop * HASH_BYTES :]
            del self._numbers[: drop * NUMBERS_BYTES]
            upto -= drop
            known, summary = self._summed
            self._summed = (known - drop, summary)
        self._settled = upto

    def _first_within(self, lines: int) -> int:
        """The first step from which on there are at most so many cart lines."""
        at = len(self._steps)
        while at and (lines := lines - len(self._steps[at - 1].lines)) >= 0:
            at -= 1
        return at


def path_of(
    steps: tuple[Step, ...],
    hashes: bytes,
    numbers: bytes,
    settled: int,
    base: Summary,
    window: Window,
) -> PathState:
    """A path of what is stored of it, with what follows from that."""
    pending = steps[settled:]
    tip = fold_all(base, pending, window)
    lines = sum(len(step.lines) for step in pending)
    return PathState(steps, settled, base, tip, hashes, numbers, lines)


def fold_all(summary: Summary, steps: Sequence[Step], window: Window) -> Summary:
    """The summary with more steps, in order, none older than the last one folded."""
    if not steps:
        return summary
    opened = _opened(summary, window)
    for step in steps:
        opened.add(step)
    return opened.summary()


def _opened(summary: Summary, window: Window) -> OpenSummary:
    return OpenSummary(summary, window.session_gap_ms, window.cart_lines)
