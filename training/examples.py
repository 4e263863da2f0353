"""Clicks -> examples, by replay through the window and the encoder of the worker.

Rules

1.  Every click is pushed onto the path of its user; what a model is shown is what `Encoder.encode`
    makes of the path at that moment. Nothing is grouped, sorted or padded here.
2.  The corpus is cut by time into the parts train, valid and test. The labels of an example come
    from the steps of its user that are older than the end of its part, and from nothing else
    (`training.labels`). Paths go on across the cuts, as they do in the worker.
3.  For training an array is taken after every `stride` steps of a user, with labels on those steps:
    the model is causal, so one array teaches all of them. For valid and test an array is taken at
    a share of the steps, with labels on its last step only: just what the worker asks.
4.  Users do not see one another. The replay of some users gives the very examples that the replay
    of all gives for them, so that a large corpus may be replayed a few users at a time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from clickpath.encoding import Encoder
from clickpath.events import Click
from clickpath.ids import draw
from clickpath.steps import Step, step_of
from clickpath.window import EMPTY_PATH, OpenPath, Verdict
from training.labels import NO_LABELS, Labels, labels_of

TRAIN: Final = 0
VALID: Final = 1
TEST: Final = 2
PARTS: Final = ("train", "valid", "test")

_MASK_63: Final = (1 << 63) - 1

#: After so many steps a path forgets what nobody needs.
_SETTLE_STEPS: Final = 64


class Cuts(NamedTuple):
    """Where the parts begin and the corpus ends, in epoch milliseconds.

    train < valid_ms <= valid < test_ms <= test; what is not older than end_ms is not looked at.
    """

    valid_ms: int
    test_ms: int
    end_ms: int

    def part(self, ts_ms: int) -> int:
        """The part that a time belongs to."""
        return (ts_ms >= self.valid_ms) + (ts_ms >= self.test_ms)

    def end_of(self, part: int) -> int:
        """Where a part ends (exclusive)."""
        return self[part]


class Entry(NamedTuple):
    """What the replay takes of a click.

    Attributes:
        user: 63-bit hash of the user's id.
        place: Where it stands in the order of arrival; comparable for one user only.
        step: What the path keeps of it.
    """

    user: int
    place: int
    step: Step


class Example(NamedTuple):
    """One encoded path and what came after its steps.

    Attributes:
        part: Index into `PARTS`.
        path: The encoded path, shape (FEATURES, window.steps).
        labels: Those of each real step, oldest first.
        user: 63-bit hash of the user's id.
        last: The last step.
    """

    part: int
    path: array[int]
    labels: tuple[Labels, ...]
    user: int
    last: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which steps become examples.

    Attributes:
        stride: Steps of a user per array of the training part.
        share: Share of the steps that become examples of the other parts, from 0 to 1.
        seed: Which steps these are.
        unlabelled: Whether to give those too of which nothing is known.
    """

    stride: int = 25
    share: float = 0.15
    seed: int = 1
    unlabelled: bool = False


@lru_cache(maxsize=1 << 16)
def user_hash(user_id: str) -> int:
    """63 bits that stand for a user."""
    raw = blake2b(user_id.encode("utf-8"), digest_size=8, person=b"user").digest()
    return int.from_bytes(raw, "big") & _MASK_63


def entry_of(click: Click, place: int = 0) -> Entry:
    """What the replay takes of a click."""
    return Entry(user_hash(click.user_id), place, step_of(click))


class _Taken(NamedTuple):
    """An array that waits for its labels."""

    part: int
    path: array[int]
    steps: tuple[Step, ...]
    labelled: int  # so many of the newest steps get labels


@dataclass(slots=True)
class _User:
    path: OpenPath
    seen: list[Step]  # all accepted steps, in order of arrival
    fresh: int  # newest steps of the training part that no array has labels for yet
    taken: list[_Taken]


class Replay:
    """Replays clicks of some users and gives their examples; see the rules above.

    Args:
        encoder: The worker's encoder, with the worker's window.
        cuts: Where the parts begin.
        sampling: Which steps become examples.
        wanted: Tells whether a click of a later part becomes one, in place of `sampling.share`.

    Attributes:
        verdicts: What became of the clicks.
    """

    def __init__(
        self,
        encoder: Encoder,
        cuts: Cuts,
        sampling: Sampling | None = None,
        wanted: Callable[[Entry], bool] | None = None,
    ) -> None:
        self._encoder = encoder
        self._cuts = cuts
        self._sampling = sampling or Sampling()
        self._wanted = wanted or self._drawn
        self.verdicts = Counter[Verdict]()
        assert 1 <= self._sampling.stride <= encoder.window.steps

    def run(self, entries: Iterable[Entry]) -> Iterator[Example]:
        """The examples of some users.

        Args:
            entries: User by user, and in order of arrival for each; those older than the window's
                lateness are left out, as the worker leaves them out. Memory holds one user.
        """
        for name, of_user in groupby(entries, key=itemgetter(0)):
            user = _User(OpenPath(EMPTY_PATH, self._encoder.window), [], 0, [])
            for entry in of_user:
                if entry.step.ts_ms < self._cuts.end_ms:
                    self._push(user, entry)
            if user.fresh:
                self._take(user, TRAIN, user.fresh)
            yield from self._labelled(name, user)

    def _push(self, user: _User, entry: Entry) -> None:
        if user.fresh and self._cuts.part(entry.step.ts_ms) != TRAIN:
            self._take(user, TRAIN, user.fresh)
        verdict = user.path.push(entry.step)
        self.verdicts[verdict] += 1
        if verdict.accepted:
            self._accepted(user, entry, verdict)

    def _accepted(self, user: _User, entry: Entry, verdict: Verdict) -> None:
        user.seen.append(entry.step)
        part = self._cuts.part(user.path.last.ts_ms)
        if part == TRAIN:
            user.fresh += 1
            if user.fresh >= self._sampling.stride:
                self._take(user, TRAIN, user.fresh)
        elif verdict is Verdict.HEAD and self._wanted(entry):
            self._take(user, part, 1)
        if not len(user.seen) % _SETTLE_STEPS:
            user.path.state()

    def _drawn(self, entry: Entry) -> bool:
        seed, user, event = map(str, (self._sampling.seed, entry.user, entry.step.event))
        return draw("example", seed, user, event) < self._sampling.share

    def _take(self, user: _User, part: int, labelled: int) -> None:
        path = user.path.state()
        steps = path.steps[-self._encoder.window.steps :]
        user.taken.append(_Taken(part, self._encoder.encode(path), steps, labelled))
        if part == TRAIN:
            user.fresh = 0

    def _labelled(self, name: int, user: _User) -> Iterator[Example]:
        """The user's examples; those of which nothing is known are of no use to training."""
        gap_ms = self._encoder.window.session_gap_ms
        user.seen.sort()  # what came out of order stands where it belongs
        part, labels = -1, list[Labels]()
        for taken in user.taken:
            if taken.part != part:
                part, end_ms = taken.part, self._cuts.end_of(taken.part)
                known = user.seen[: bisect_left(user.seen, (end_ms,))]
                labels = labels_of(known, end_ms, gap_ms)
            unlabelled = max(0, len(taken.steps) - taken.labelled)
            given = tuple(labels[bisect_left(user.seen, step)] for step in taken.steps[unlabelled:])
            if self._sampling.unlabelled or any(each != NO_LABELS for each in given):
                every = (NO_LABELS,) * unlabelled + given
                yield Example(taken.part, taken.path, every, name, taken.steps[-1])
