"""Clicks -> examples, by replay through the window and the encoder of the worker.

Rules

1.  Every click goes through `push_step`; what a model is shown is what `Encoder.encode` makes of
    the path at that moment. Nothing is grouped, sorted or padded here.
2.  A step's label is what its user does later: the next action, and whether a purchase follows
    before the session ends. A label is known once a later click, or enough silence, tells it.
3.  The corpus is cut by time into the parts train, valid and test. When the replay reaches a cut,
    all open labels are closed with what is known at that time, so that no example of an earlier
    part can have looked past it. Paths go on across the cuts, as they do in the worker.
4.  For training an array is taken after every `stride` steps of a user, with labels on those steps:
    the model is causal, so one array teaches all of them. For valid and test an array is taken at
    a share of the steps, with a label on its last step only: just what the worker asks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from clickpath.encoding import Encoder
from clickpath.events import Click
from clickpath.ids import draw
from clickpath.steps import Step, step_of
from clickpath.vocabulary import ACTION_ID
from clickpath.window import EMPTY_PATH, PathState, Verdict, push_step

TRAIN: Final = 0
VALID: Final = 1
TEST: Final = 2
PARTS: Final = ("train", "valid", "test")

#: The label of a step whose future is not known: padding for an action, and this for a purchase.
UNKNOWN: Final = -1

_PURCHASE: Final = ACTION_ID["purchase"]


class Cuts(NamedTuple):
    """Where the parts begin, in epoch milliseconds: train < valid_ms <= valid < test_ms <= test."""

    valid_ms: int
    test_ms: int

    def part(self, ts_ms: int) -> int:
        """The part that a time belongs to."""
        return (ts_ms >= self.valid_ms) + (ts_ms >= self.test_ms)


class Example(NamedTuple):
    """One encoded path and what came after its steps.

    Attributes:
        part: Index into `PARTS`.
        path: The encoded path, shape (FEATURES, steps).
        next_action: Shape (steps,): id of the action that followed; 0 where it is not known.
        purchase: Shape (steps,): 1 for a purchase in the rest of the session, 0 for none,
            `UNKNOWN` where it is not known.
    """

    part: int
    path: array[int]
    next_action: array[int]
    purchase: array[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which steps become examples.

    Attributes:
        stride: Steps of a user per array of the training part.
        share: Share of the steps that become examples of the other parts, from 0 to 1.
    """

    stride: int = 25
    share: float = 0.15


@dataclass(slots=True)
class _User:
    path: PathState
    fresh: int  # newest steps that no array has labels for yet
    open: list[_Open]


@dataclass(slots=True)
class _Open:
    """An array whose labels are not all known yet."""

    example: Example
    steps: tuple[Step, ...]
    waiting: list[int]  # positions that still wait for a purchase or the end of their session

    def follow(self, head: Step) -> None:
        """The step right after the last one of the array is known."""
        self.example.next_action[len(self.steps) - 1] = head.action

    def settle(self, purchase: int, before: Step | None = None) -> None:
        """Labels the waiting positions (only those before a step, if one is given)."""
        still = []
        for position in self.waiting:
            if before is not None and self.steps[position][:2] > before[:2]:
                still.append(position)
            else:
                self.example.purchase[position] = purchase
        self.waiting = still

    @property
    def labelled(self) -> bool:
        """Whether there is anything to learn from it."""
        return any(self.example.next_action) or any(y != UNKNOWN for y in self.example.purchase)


class Replay:
    """Replays a corpus and gives its examples; see the rules above.

    Args:
        encoder: The worker's encoder, with the worker's window.
        cuts: Where the parts begin.
        sampling: Which steps become examples.
    """

    def __init__(self, encoder: Encoder, cuts: Cuts, sampling: Sampling | None = None) -> None:
        self._encoder = encoder
        self._cuts = cuts
        self._sampling = sampling or Sampling()
        self._users: dict[str, _User] = {}
        self._part = TRAIN
        self._newest_ms = 0
        assert 1 <= self._sampling.stride <= encoder.window.steps

    def run(self, clicks: Iterable[Click]) -> Iterator[Example]:
        """The examples of all clicks, each as soon as its labels are known.

        Args:
            clicks: In order of arrival; those older than the window's lateness are left out, as
                the worker leaves them out.
        """
        for click in clicks:
            part = self._cuts.part(click.ts_ms)
            while part > self._part:
                yield from self._close(self._cuts[self._part])
                self._part += 1
            self._newest_ms = max(self._newest_ms, click.ts_ms)
            yield from self._push(click)
        yield from self._close(self._newest_ms)

    def _push(self, click: Click) -> Iterator[Example]:
        user = self._users.get(click.user_id)
        if user is None:
            user = self._users[click.user_id] = _User(EMPTY_PATH, 0, [])
        before = user.path
        step = step_of(click)
        user.path, verdict = push_step(before, step, self._encoder.window)
        if not verdict.accepted:
            return
        if user.open:
            yield from self._label(user, before, step, verdict)
        user.fresh += 1
        if self._wanted(user, click, verdict):
            self._open(user, self._part)

    def _wanted(self, user: _User, click: Click, verdict: Verdict) -> bool:
        if self._part == TRAIN:
            return user.fresh >= self._sampling.stride
        return (
            verdict is Verdict.HEAD
            and self._cuts.part(click.ts_ms) == self._part
            and draw("example", click.user_id, click.event_id) < self._sampling.share
        )

    def _label(
        self, user: _User, before: PathState, step: Step, verdict: Verdict
    ) -> Iterator[Example]:
        """Labels the user's open arrays with one more step, and gives those that are done."""
        last = before.steps[-1]
        head = verdict is Verdict.HEAD
        ended = head and step.ts_ms - last.ts_ms >= self._encoder.window.session_gap_ms
        still = []
        for one in user.open:
            if head and one.steps[-1] is last:
                one.follow(step)
            if ended:
                one.settle(0)
            elif step.action == _PURCHASE:
                one.settle(1, before=step)
            if one.waiting:
                still.append(one)
            else:
                yield one.example
        user.open = still

    def _open(self, user: _User, part: int) -> None:
        """Takes the array of the path as it is now; labels what the path itself tells."""
        steps = user.path.steps[-self._encoder.window.steps :]
        labelled = user.fresh if part == TRAIN else 1
        user.fresh = 0
        size = self._encoder.window.steps
        example = Example(
            part,
            self._encoder.encode(user.path),
            array("b", bytes(size)),
            array("b", [UNKNOWN]) * size,
        )
        one = _Open(example, steps, [])
        first = max(0, len(steps) - labelled)
        purchase = UNKNOWN
        for position in range(len(steps) - 1, first - 1, -1):
            if position < len(steps) - 1:
                after = steps[position + 1]
                example.next_action[position] = after.action
                if after.ts_ms - steps[position].ts_ms >= self._encoder.window.session_gap_ms:
                    purchase = 0
                elif after.action == _PURCHASE:
                    purchase = 1
            if purchase == UNKNOWN:
                one.waiting.append(position)
            else:
                example.purchase[position] = purchase
        user.open.append(one)

    def _close(self, now_ms: int) -> Iterator[Example]:
        """Closes every label with what is known at `now_ms`, where a part ends (exclusive)."""
        for user in self._users.values():
            if self._part == TRAIN and user.fresh:
                self._open(user, TRAIN)
            user.fresh = 0
            silent_ms = now_ms - user.path.steps[-1].ts_ms
            for one in user.open:
                if silent_ms >= self._encoder.window.session_gap_ms:
                    one.settle(0)
                if one.labelled:
                    yield one.example
            user.open = []
