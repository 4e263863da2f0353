"""Decisions that wait for the end of their sessions: whether a purchase came, and whether anything.

Rules

1.  The outcomes are the trainer's labels of two heads (`training.labels`): purchase, whether one
    comes after the scored event and before a silence of the session gap; leave, whether nothing
    does.
2.  An outcome is known when its session has ended, a yes as well as a no. Were a yes known at once
    and a no only after the silence that proves it, all newest outcomes would say yes, and whichever
    model says yes more often would look better.
3.  A session has ended when its user's path says so, or when the time of its partition is the
    session gap and the lateness past its last event. That time is the median of what is the newest
    event of the users in a chunk, and never goes back: it is the time of events and not of a
    clock, so that a worker that catches up sees no silence where events still wait for it, and a
    few users with wrong clocks move nothing.
4.  One decision of a session waits, the first one that is sampled: those of one session share
    their outcome, and would make the sample look larger than it is.
5.  Purchases are counted, not searched for: one that arrives behind the scored event and is older
    counts as if it came after it. Whether she left is told by the time of the session's last event.
6.  At most `MOST_WAITING` wait. When there is no room no more are taken; whoever put the oldest
    ones out would never see an end in a shop that is busy enough.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import median_low
from typing import Final, NamedTuple

from clickpath.vocabulary import ACTION_ID
from clickpath.window import PathState, Window
from clickpath.wire.state import UserState

#: Most decisions that wait; one takes about 400 bytes.
MOST_WAITING: Final = 20_000

#: Users of a chunk whose newest events tell its time.
_CLOCKS: Final = 64

_PURCHASE: Final = ACTION_ID["purchase"]


class Said(NamedTuple):
    """Two probabilities of one thing."""

    champion: float
    candidate: float


@dataclass(slots=True)
class _Open:
    """A session that has not ended.

    Attributes:
        event: Hash of the scored event.
        at_ms: Its time.
        number: Of the session, among the user's.
        purchases: Of the user, up to the event.
        last_ms: Of the session's last event that is known.
        bought: Whether a purchase came after the event.
        left: Whether nothing did.
        purchase: What both models say of a purchase; None until both are known.
        leave: What both say of the session's end; None where it is not known of both.
    """

    event: int
    at_ms: int
    number: int
    purchases: int
    last_ms: int
    bought: bool = False
    left: bool = True
    purchase: Said | None = None
    leave: Said | None = None


class Sessions:
    """See the rules above.

    Args:
        window: Of the paths.
        bought: Is told of an end: the champion's probability of a purchase, the candidate's, and
            whether one came.
        left: The same of the end itself: whether nothing came after the scored event.
        most: That wait.
    """

    def __init__(
        self,
        window: Window,
        bought: Callable[[float, float, bool], None],
        left: Callable[[float, float, bool], None],
        most: int = MOST_WAITING,
    ) -> None:
        self._silence_ms = window.session_gap_ms + window.lateness_ms
        self._bought = bought
        self._left = left
        self._most = most
        # By partition, whoever was seen longest ago first.
        self._open: dict[int, OrderedDict[bytes, _Open]] = {}
        self._time_ms: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def wait(self, partition: int, key: bytes, path: PathState) -> None:
        """Takes the path of a decision, whose scores are not known of both models yet."""
        waiting = self._open.setdefault(partition, OrderedDict())
        if key in waiting or len(self) >= self._most:
            return
        tip = path.tip
        bought = tip.counts[_PURCHASE]
        waiting[key] = _Open(tip.last_event, tip.last_ms, tip.sessions, bought, tip.last_ms)

    def scored(
        self,
        partition: int,
        key: bytes,
        event: int,
        *,
        purchase: Said | None = None,
        leave: Said | None = None,
    ) -> None:
        """Notes what both say of a decision, if it waits; what is not given stays as it was."""
        waiting = self._open.get(partition)
        found = waiting.get(key) if waiting is not None else None
        if found is not None and found.event == event:
            found.purchase = purchase or found.purchase
            found.leave = leave or found.leave

    def after_chunk(
        self, partition: int, users: Mapping[bytes, UserState], erased: Collection[bytes]
    ) -> None:
        """Looks at the states after a chunk, and tells of the sessions that have ended."""
        waiting = self._open.get(partition)
        if not waiting:
            return
        for key in erased:
            waiting.pop(key, None)
        for key in waiting.keys() & users.keys():
            if self._look(waiting[key], users[key].path):
                del waiting[key]
            else:
                waiting.move_to_end(key)
        over_ms = self._now_ms(partition, users) - self._silence_ms
        while waiting:
            key, first = next(iter(waiting.items()))
            if first.last_ms > over_ms:
                break
            del waiting[key]
            self._tell(first)

    def keep(self, partitions: Collection[int]) -> None:
        """Forgets those of all other partitions: other workers see how they end."""
        for gone in self._open.keys() - partitions:
            del self._open[gone]
        for gone in self._time_ms.keys() - partitions:
            del self._time_ms[gone]

    def _look(self, session: _Open, path: PathState) -> bool:
        """Whether a session has ended, or nothing can be told of its end any more."""
        tip = path.tip
        if tip.sessions == session.number:
            session.bought = tip.counts[_PURCHASE] > session.purchases
            session.left = tip.last_event == session.event
            session.last_ms = tip.last_ms
            return False
        if tip.sessions == session.number + 1:
            session.bought = tip.counts_before_session[_PURCHASE] > session.purchases
            # The silence before this session began at the last event of the one before.
            session.left &= tip.session_start_ms - tip.absence_ms <= session.at_ms
            self._tell(session)
        # Otherwise several have begun since, or the state began anew.
        return True

    def _tell(self, session: _Open) -> None:
        if session.purchase is not None:
            self._bought(*session.purchase, session.bought)
        if session.leave is not None:
            self._left(*session.leave, session.left)

    def _now_ms(self, partition: int, users: Mapping[bytes, UserState]) -> int:
        some = islice(users.values(), 0, None, -(-len(users) // _CLOCKS) or 1)
        clocks = [each.path.tip.last_ms for each in some]
        now_ms = self._time_ms.get(partition, 0)
        if clocks:
            now_ms = self._time_ms[partition] = max(now_ms, median_low(clocks))
        return now_ms
