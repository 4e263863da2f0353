"""The handler: a chunk of raw records and the users' states in, output records and new states out.

It knows neither broker nor worker, so that `clickpath replay` runs the very same code. One chunk
goes through four steps:

    read     bytes -> step, or a dead letter
    push     step -> path, or a duplicate, or a late event
    score    all paths of the chunk at which a decision is due, some thousand at once
    decide   in order of arrival, each decision on what the user has been sent before it

A decision depends on its user's records and on the scores of its own path, never on where a chunk
begins or ends. It is made at the head of a path only: an event that arrives out of order finds
that the decision for the newer one has been made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from clickpath.decision import (
    Decision,
    DecisionPoint,
    Digests,
    avoids_inference,
    decide,
    in_holdout,
)
from clickpath.eligibility import eligible_kinds
from clickpath.encoding import Encoder
from clickpath.erasure import Request, request_of
from clickpath.errors import BadEvent, PredictorError
from clickpath.policy import Policy
from clickpath.pseudonym import Edge, open_edge
from clickpath.scores import Scores
from clickpath.vocabulary import ACTION_ID, OTHER
from clickpath.window import Verdict
from clickpath.wire import parse_arrival
from clickpath.wire.records import decision_to_json, intervention_to_json
from clickpath.wire.state import UserState
from serving.predictor import Predictor
from stream.batch.records import Chunk, OutputRecord, RawRecord, Unreadable
from stream.cause import cause_header
from stream.erasing import receipt_record
from stream.returned import Returns
from stream.spans import ChunkTrace, Headers
from stream.tally import Tally
from stream.topics import Topics
from stream.work import User, Work

_OTHER: Final = ACTION_ID[OTHER]

#: Most paths in one call, each with the whole deadline: while a worker catches up, its chunks are
#: large, and what a model can score in time does not grow with them.
_PATHS_PER_CALL: Final = 1_024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a chunk comes to.

    Attributes:
        outputs: Records to send, in order; all of them before the states are written.
        users: The new states, by user id in UTF-8.
        erased: The users whose states are to be removed.
        tally: The counts.
    """

    outputs: Sequence[OutputRecord]
    users: Mapping[bytes, UserState]
    tally: Tally
    erased: Collection[bytes] = ()

    def changes(self) -> Mapping[bytes, UserState | None]:
        """What is to be written of the states; None removes one."""
        return {**dict.fromkeys(self.erased), **self.users} if self.erased else self.users


@dataclass(frozen=True, slots=True)
class _Due:
    """A decision that is due, with the record that caused it."""

    user: User
    record: RawRecord
    point: DecisionPoint


class Handler:
    """Turns chunks into outcomes; holds no state of any user.

    Args:
        encoder: Encodes paths; its window keeps them.
        policy: Decides.
        predictor: Scores; None decides by the fallback policy, with the reason "no_model".
        topics: Where records go.
        deadline_s: How long the model may take for one call.
        max_future_ms: How far ahead of now an event time may be.
        edge: Makes the user ids that leave of those that come.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        policy: Policy,
        predictor: Predictor | None,
        topics: Topics,
        deadline_s: float,
        max_future_ms: int,
        edge: Edge = open_edge,
    ) -> None:
        self._encoder = encoder
        self._policy = policy
        self._predictor = predictor
        self._topics = topics
        self._deadline_s = deadline_s
        self._max_future_ms = max_future_ms
        self._edge = edge
        self._returns = Returns(topics, pseudonyms=edge is not open_edge)
        self._of_model: dict[str, Digests] = {}

    @property
    def policy(self) -> Policy:
        """What decides beside the model."""
        return self._policy

    @property
    def digests(self) -> Digests:
        """What decides at present; the model may be another one after a switch."""
        return self._digests("none" if self._predictor is None else self._predictor.digest)

    def _digests(self, model: str) -> Digests:
        digests = self._of_model.get(model)
        if digests is None:
            digests = Digests(model, self._policy.digest, self._encoder.fingerprint)
            self._of_model[model] = digests
        return digests

    async def handle(
        self,
        chunk: Chunk,
        users: Mapping[bytes, UserState],
        now_ms: int,
        trace: ChunkTrace | None = None,
    ) -> Outcome:
        """Handles one chunk.

        Args:
            chunk: Records of one partition, in order of offset.
            users: The states of the partition's users; only read.
            now_ms: The present, to tell times in the future from clocks that drift.
            trace: Is told what happens; None where nobody traces.
        """
        tally = Tally()
        outputs: list[OutputRecord] = []
        work = Work(users, self._encoder.window, self._edge)
        forgotten: deque[tuple[int, OutputRecord]] = deque()
        due = self._read_and_push(chunk, work, outputs, forgotten, tally, now_ms)
        if trace is not None:
            trace.due(each.record for each in due)
        scores, fallback = await self._score(due, tally, trace)
        self._decide(chunk, due, scores, fallback, outputs, forgotten, tally, trace)
        outputs += (tombstone for _, tombstone in forgotten)
        return Outcome(outputs, work.states(), tally, tuple(work.erased))

    def _read_and_push(
        self,
        chunk: Chunk,
        work: Work,
        outputs: list[OutputRecord],
        forgotten: deque[tuple[int, OutputRecord]],
        tally: Tally,
        now_ms: int,
    ) -> list[_Due]:
        policy = self._policy
        index, max_future_ms, personal = policy.index, self._max_future_ms, tally.personal
        accepted = not_eligible = 0
        due: list[_Due] = []
        for record in chunk.records:
            try:
                given_id, event_id, step = parse_arrival(
                    record.value, record.headers, now_ms, max_future_ms, personal
                )
                user = work[given_id]
            except BadEvent as refusal:
                error = record.error if isinstance(record, Unreadable) else refusal
                request = request_of(record.value, record.headers) if record.headers else None
                if request is not None:
                    outputs.append(self._erase(request, chunk, record, work, now_ms))
                    if request.step == "erase":
                        forgotten.append((len(due), self._tombstone(request, chunk, record)))
                    tally.erasures += 1
                    continue
                tally.dead_letters[error.code] += 1
                outputs.append(self._returns.dead_letter(chunk, record, error))
                continue
            offset = record.offset
            if offset <= user.stamp:
                tally.skipped += 1
                continue
            path = user.path
            verdict = path.push(step)
            if verdict is Verdict.DUPLICATE:
                tally.duplicates += 1
                continue
            if verdict is Verdict.LATE:
                tally.late += 1
                behind_ms = path.last.ts_ms - step.ts_ms
                outputs.append(self._returns.late(chunk, record, behind_ms))
                continue
            accepted += 1
            if step.action == _OTHER:
                tally.unknown_types += 1
            user.stamp, user.changed = offset, True
            if verdict is Verdict.INSERTED:
                tally.inference_avoided["out_of_order"] += 1
                continue
            kinds = eligible_kinds(index, step.action, path.tip, step.ts_ms)
            if not kinds:
                not_eligible += 1
                continue
            user_id = user.user_id
            holdout = in_holdout(policy, user_id)
            point = DecisionPoint(user_id, event_id, step.ts_ms, path.view(), kinds, holdout)
            due.append(_Due(user, record, point))
        tally.accepted += accepted
        if not_eligible:
            tally.inference_avoided["not_eligible"] += not_eligible
        return due

    def _erase(
        self, request: Request, chunk: Chunk, record: RawRecord, work: Work, now_ms: int
    ) -> OutputRecord:
        """Takes one step of an erasure, and says so."""
        found, events = work.erase(request, record.offset)
        return receipt_record(
            self._topics.erasures, request, chunk, record, now_ms=now_ms, found=found, events=events
        )

    def _tombstone(self, request: Request, chunk: Chunk, record: RawRecord) -> OutputRecord:
        """For whoever keeps something by the key of a decision; behind those that it is about."""
        cause = cause_header(chunk.partition, record.offset)
        return OutputRecord(self._topics.decisions, request.user_id.encode("utf-8"), None, (cause,))

    async def _score(
        self, due: Sequence[_Due], tally: Tally, trace: ChunkTrace | None
    ) -> tuple[dict[int, Scores], str | None]:
        """Scores by position in `due`, and why those that are missing are missing."""
        asked: list[int] = []
        for n, each in enumerate(due):
            # Sending more never makes a suppressed kind eligible again, so the ledger from before
            # the chunk may answer this; `decide` looks at the one that is right at that point.
            reason = avoids_inference(each.point, self._policy, each.user.ledger)
            if reason is None:
                asked.append(n)
            else:
                tally.inference_avoided[reason] += 1
        if not asked:
            return {}, None
        if self._predictor is None:
            return {}, "no_model"
        scores: dict[int, Scores] = {}
        for begin in range(0, len(asked), _PATHS_PER_CALL):
            some = asked[begin : begin + _PATHS_PER_CALL]
            paths = [self._encoder.encode(due[n].point.path) for n in some]
            keys = [due[n].user.key for n in some]
            tally.inference_calls += 1
            tally.inference_paths += len(paths)
            try:
                with nullcontext() if trace is None else trace.scoring(len(paths)):
                    answers = await self._predictor.predict(paths, self._deadline_s, keys=keys)
            except PredictorError as error:
                # A model that has just failed is not asked again for the rest of the chunk.
                return scores, error.reason
            scores.update(zip(some, answers, strict=True))
        return scores, None

    def _decide(
        self,
        chunk: Chunk,
        due: Sequence[_Due],
        scores: Mapping[int, Scores],
        fallback: str | None,
        outputs: list[OutputRecord],
        forgotten: deque[tuple[int, OutputRecord]],
        tally: Tally,
        trace: ChunkTrace | None,
    ) -> None:
        topics, digests = self._topics, self.digests
        for n, each in enumerate(due):
            while forgotten and forgotten[0][0] <= n:
                outputs.append(forgotten.popleft()[1])
            said = scores.get(n)
            decision, each.user.ledger = decide(
                each.point,
                said,
                fallback,
                self._policy,
                each.user.ledger,
                # Where several models are at work, each of the scores says whose they are.
                self._digests(said.model) if said is not None and said.model else digests,
            )
            tally.decisions[decision.reason] += 1
            for held_back in decision.suppressed:
                tally.held_back[held_back] += 1
            if decision.fallback is not None:
                tally.fallbacks[decision.fallback] += 1
            cause = cause_header(chunk.partition, each.record.offset)
            record = decision_to_json(decision)
            outputs.append(OutputRecord(topics.decisions, each.user.key, record, (cause,)))
            if decision.kind is not None:
                tally.interventions[decision.kind] += 1
                carried = () if trace is None else trace.sent(each.record, decision)
                outputs.append(self._intervention(each, decision, decision.kind, carried))

    def _intervention(
        self, each: _Due, decision: Decision, kind: str, carried: Headers
    ) -> OutputRecord:
        intervention = decision.intervention
        assert intervention is not None
        return OutputRecord(
            self._topics.of_kind(kind),
            each.user.key,
            intervention_to_json(intervention),
            # When the cause reached the broker, to measure how long the answer took.
            (("clickpath-cause-timestamp-ms", b"%d" % each.record.timestamp_ms), *carried),
        )
