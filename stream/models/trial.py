"""A candidate on trial: both models on a sample of live decisions, and what came next.

Nothing waits for it. After a chunk has been handled, a few of its decisions are read back from
their records, the model that did not score them is asked about the same paths, and the user's next
event, when it comes, says which of the two foretold it better; the end of her session says which of
them foretold better whether she buys. While one sample is being scored no other is taken, so that
the candidate never takes more than one call's time from the champion.

Of each few samples both models are asked once more, one after the other, for their times: in turn
first, without keys, so that no cache of either knows the paths. These answers alone tell what both
say of a session's end, which no record of a decision holds.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from clickpath.decision import Decision, decide, decision_point
from clickpath.encoding import Encoder
from clickpath.errors import PredictorError
from clickpath.policy import Policy
from clickpath.scores import Scores
from clickpath.wire.records import decision_from_json
from clickpath.wire.state import UserState
from serving.switching import Version
from stream.batch.records import OutputRecord
from stream.models.evidence import Evidence
from stream.models.sessions import Said, Sessions

logger = logging.getLogger(__name__)

#: Most decisions of a chunk that are looked at.
SAMPLE: Final = 32

#: Each of how many samples is timed.
_TIMED: Final = 4

#: Most users whose next event is waited for; those who wait longest are forgotten.
_WAITING: Final = 4_096

_UNSCORED: Final = b'"scores":null'


class _Waiting(NamedTuple):
    """A path that both have scored, until the next event of its user."""

    event: int
    champion: tuple[float, ...]
    candidate: tuple[float, ...]


class Trial:
    """One candidate beside one champion.

    Args:
        champion: The one.
        candidate: The other.
        policy: Decides on the scores of both.
        encoder: Of the paths.
        decisions: Topic of the decisions among the outputs.
        deadline_s: For the call about a sample.
        pause_s: The least time between two samples.
    """

    def __init__(
        self,
        champion: Version,
        candidate: Version,
        policy: Policy,
        encoder: Encoder,
        decisions: str,
        deadline_s: float,
        pause_s: float = 0.05,
    ) -> None:
        self._champion = champion
        self._candidate = candidate
        self._policy = policy
        self._encoder = encoder
        self._decisions = decisions
        self._deadline_s = deadline_s
        self._pause_s = pause_s
        self._evidence = Evidence()
        self._sessions = Sessions(
            encoder.window,
            self._evidence.purchase.add_yes_or_no,
            self._evidence.leave.add_yes_or_no,
        )
        self._samples = 0
        self._calls_before = candidate.calls, candidate.failures
        self._waiting: OrderedDict[bytes, _Waiting] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._next_s = 0.0

    @property
    def evidence(self) -> Evidence:
        """What is known so far."""
        calls, failures = self._calls_before
        self._evidence.calls = self._candidate.calls - calls
        self._evidence.failures = self._candidate.failures - failures
        return self._evidence

    def after_chunk(
        self,
        partition: int,
        outputs: Sequence[OutputRecord],
        users: Mapping[bytes, UserState],
        erased: Collection[bytes] = (),
    ) -> None:
        """Looks at what a chunk came to: at outcomes, and at a sample of its decisions.

        Args:
            partition: Of the chunk.
            outputs: Of the chunk.
            users: The states after it.
            erased: The users who have none any more.
        """
        for key in erased:
            self._waiting.pop(key, None)
        for key in self._waiting.keys() & users.keys():
            self._resolve(key, users[key])
        self._sessions.after_chunk(partition, users, erased)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_s or (self._task is not None and not self._task.done()):
            return
        sample = self._sample(outputs)
        if sample:
            self._next_s = now_s + self._pause_s
            # A user who was erased within the chunk has no state any more.
            sample = [each for each in sample if each.user_id.encode() in users]
            states = {key: users[key] for key in {each.user_id.encode() for each in sample}}
            for each in sample:
                self._sessions.wait(partition, each.user_id.encode(), each.path)
            self._sessions.after_chunk(partition, states, ())
            self._task = asyncio.create_task(self._compare(partition, sample, states))

    def keep(self, partitions: Collection[int]) -> None:
        """Forgets whose sessions other workers see end: those of all other partitions."""
        self._sessions.keep(partitions)

    async def settled(self) -> None:
        """Waits until no sample is in hand."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Gives up the sample in hand."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _sample(self, outputs: Sequence[OutputRecord]) -> list[Decision]:
        scored = [
            each.value
            for each in outputs
            if each.topic == self._decisions and each.value and _UNSCORED not in each.value
        ]
        stride = -(-len(scored) // SAMPLE) or 1
        window = self._encoder.window
        some = (decision_from_json(raw, window) for raw in islice(scored, 0, None, stride))
        ours = (self._champion.digest, self._candidate.digest)
        return [each for each in some if each.digests.model in ours]

    async def _compare(
        self, partition: int, sample: Sequence[Decision], states: Mapping[bytes, UserState]
    ) -> None:
        champion, candidate = self._champion, self._candidate
        for scorer, other in ((champion, candidate), (candidate, champion)):
            some = [each for each in sample if each.digests.model == scorer.digest]
            if not some:
                continue
            paths = [self._encoder.encode(each.path) for each in some]
            keys = [each.user_id.encode() for each in some]
            try:
                answers = await other.predict(paths, self._deadline_s, keys)
            except PredictorError as error:
                # The version has counted it; the guards look at the count.
                logger.warning("no comparison, %s gave no scores: %s", other.digest, error)
                if other is candidate:
                    await self._excuse(paths)
                continue
            for decision, key, theirs in zip(some, keys, answers, strict=True):
                assert decision.scores is not None
                pair = decision.scores, theirs
                ours, new = pair if scorer is champion else pair[::-1]
                self._add(decision, key, ours, new, theirs)
                event = decision.path.tip.last_event
                said = Said(ours.purchase, new.purchase)
                self._sessions.scored(partition, key, event, purchase=said)
                self._resolve(key, states[key])
        self._samples += 1
        if sample and self._samples % _TIMED == 1:
            await self._time(partition, sample)

    async def _time(self, partition: int, sample: Sequence[Decision]) -> None:
        """Times both on the same paths; whoever is first this time is second the next."""
        paths = [self._encoder.encode(each.path) for each in sample]
        loop, took_s = asyncio.get_running_loop(), dict[Version, float]()
        said = dict[Version, Sequence[Scores]]()
        order = [self._champion, self._candidate]
        for version in order if self._evidence.timed % 2 else order[::-1]:
            begun_s = loop.time()
            try:
                said[version] = await version.predict(paths, self._deadline_s)
            except PredictorError as error:
                logger.warning("not timed, %s gave no scores: %s", version.digest, error)
                if version is self._candidate:
                    await self._excuse(paths)
                return
            took_s[version] = loop.time() - begun_s
        self._evidence.add_times(took_s[self._champion], took_s[self._candidate])
        both = said[self._champion], said[self._candidate]
        for decision, *scores in zip(sample, *both, strict=True):
            ours, new = (each.others.leave if each.others else None for each in scores)
            if ours is not None and new is not None:
                key, event = decision.user_id.encode(), decision.path.tip.last_event
                self._sessions.scored(partition, key, event, leave=Said(ours, new))

    async def _excuse(self, paths: Sequence[array[int]]) -> None:
        """Takes the candidate's failure from the counts if the champion cannot be asked either."""
        try:
            await self._champion.predict(paths, self._deadline_s)
        except PredictorError:
            self._candidate.excuse()

    def _add(
        self, decision: Decision, key: bytes, champion: Scores, candidate: Scores, other: Scores
    ) -> None:
        self._evidence.add_pair(champion, candidate, self._would_agree(decision, other))
        waiting = _Waiting(
            decision.path.steps[-1].event, champion.next_action, candidate.next_action
        )
        self._waiting[key] = waiting
        self._waiting.move_to_end(key)
        if len(self._waiting) > _WAITING:
            self._waiting.popitem(last=False)

    def _would_agree(self, decision: Decision, scores: Scores) -> bool:
        """Whether the other's scores would have made the same choice."""
        point = decision_point(
            self._policy, decision.user_id, decision.event_id, decision.path, decision.now_ms
        )
        if point is None:
            return True
        again, _ = decide(point, scores, None, self._policy, decision.ledger, decision.digests)
        return (again.kind, again.offer) == (decision.kind, decision.offer)

    def _resolve(self, key: bytes, state: UserState) -> None:
        """Counts the event after the scored one, if it has come."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        steps = state.path.steps
        at = next((n for n, step in enumerate(steps) if step.event == waiting.event), None)
        if at is not None and at + 1 == len(steps):
            return
        del self._waiting[key]
        if at is not None:  # otherwise the path has long gone on
            self._evidence.action.add_action(
                waiting.champion, waiting.candidate, steps[at + 1].action
            )
