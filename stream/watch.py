"""A running worker as it is seen from outside: its probes, and its gauges brought up to date.

What is counted of a chunk is noted here too, once the chunk is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from clickpath import __version__
from clickpath.wire.state import UserState
from serving.cache_counts import CountsCache
from serving.call_counts import CountsCalls
from serving.late import LatePredictor
from serving.predictor import Predictor
from stream.archive.beside import Beside
from stream.batch.app import BatchApp
from stream.batch.records import Chunk
from stream.batch.table import KeyedTable
from stream.drift import DriftOfWorker
from stream.handler import Handler, Outcome
from stream.health import Verdict
from stream.metrics import Metrics
from stream.models.rollout import Rollout
from stream.personal_ids import PersonalIds
from stream.placement import Placement

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What there is to look at.

    Attributes:
        app: The Faust application.
        users: The users' states.
        handler: What is done with a chunk.
        metrics: What is counted.
        placement: Whether records lie where their key puts them.
        personal_ids: Whether the shop's ids are refused.
        drift: How far inputs and scores are from what they were in training.
        predictor: The model of the settings; None where there is none.
        rollout: Its part in switching models; None without a model repository.
        archive: The reader that archives what the worker sees; None where no archive is kept.
        clock: The present in epoch milliseconds.
        stalled_after_s: How long nothing may be done until `alive` fails.
        unready_after_s: How long nothing may be committed until `ready` fails.
    """

    app: BatchApp
    users: KeyedTable[UserState]
    handler: Handler
    metrics: Metrics
    placement: Placement
    personal_ids: PersonalIds
    drift: DriftOfWorker
    predictor: Predictor | None
    rollout: Rollout | None
    archive: Beside | None
    clock: Clock
    stalled_after_s: float
    unready_after_s: float

    def after_chunk(self, chunk: Chunk, outcome: Outcome, begun_s: float) -> None:
        """Notes what came of a chunk that was begun then, by `time.perf_counter`."""
        self.metrics.count(outcome.tally)
        self.metrics.count_placement(self.placement.look(chunk))
        self.personal_ids.look(outcome.tally)
        digests = self.handler.digests
        self.drift.after_chunk(digests.model, outcome.outputs, outcome.users, time.monotonic())
        if self.rollout is not None:
            self.rollout.after_chunk(chunk.partition, outcome)
        self.metrics.chunk_seconds.observe(time.perf_counter() - begun_s)

    def alive(self) -> Verdict:
        """Fails when for too long nothing was committed, or records wait and none was finished."""
        progress = self.app.progress
        if self.app.crashed:
            return Verdict(False, "the worker has crashed and is stopping")
        if self.rollout is not None and self.rollout.ended:
            return Verdict(False, "models are not followed any more: nothing would roll one back")
        committed_s, moved_s = progress.last_commit_monotonic_s, progress.last_moved_monotonic_s
        now_s = time.monotonic()
        # Commits are confirmed while states are recovered too, but not by a broker that hangs.
        since_s = committed_s or progress.recovered_monotonic_s
        if since_s is not None and now_s - since_s > self.stalled_after_s:
            return Verdict(False, f"no commit for {now_s - since_s:.0f} s")
        if not progress.recovered or committed_s is None or moved_s is None:
            return Verdict(True, "starting, or recovering states")
        last = f"last commit {now_s - committed_s:.1f} s ago"
        if now_s - moved_s > self.stalled_after_s and progress.lag_events:
            still_s = now_s - moved_s
            return Verdict(
                False, f"{progress.lag_events} records wait; none done for {still_s:.0f} s; {last}"
            )
        return Verdict(True, last)

    def ready(self) -> Verdict:
        """Fails while states or the model are not here, or broker or topics are gone."""
        progress = self.app.progress
        if self.app.crashed:
            return Verdict(False, "the worker has crashed and is stopping")
        if self.rollout is not None and self.rollout.ended:
            return Verdict(False, "models are not followed any more")
        if progress.missing:
            return Verdict(False, f"there is no topic {', '.join(sorted(progress.missing))}")
        if not progress.recovered:
            return Verdict(False, "not in the group yet, or recovering states")
        # A commit asks the broker whether this worker is a member, also with nothing to write.
        since_s = progress.last_commit_monotonic_s or progress.recovered_monotonic_s
        if since_s is not None and (age_s := time.monotonic() - since_s) > self.unready_after_s:
            return Verdict(False, f"no commit for {age_s:.0f} s: does the broker answer?")
        if (why := self._without_model()) is not None:
            return Verdict(False, f"the fallback policy decides: {why}")
        warnings = (self.placement.warning, self.personal_ids.warning)
        said = "".join(f"; warning: {each}" for each in warnings if each is not None)
        return Verdict(True, f"{len(progress.assignment)} partitions{said}")

    def _without_model(self) -> str | None:
        """Why the model was never there; one that has gone since makes nobody unready."""
        rollout = self.rollout
        predictor = self.predictor if rollout is None else rollout.predictor.champion.predictor
        return predictor.why if isinstance(predictor, LatePredictor) else None

    def page(self) -> bytes:
        """The page of metrics, its gauges brought up to date."""
        metrics = self.metrics
        progress, now_ms = self.app.progress, self.clock()
        metrics.lag_events.clear()
        metrics.lag_seconds.clear()
        for (_, number), part in progress.partitions.items():
            metrics.lag_events.labels(number).set(part.lag_events)
            metrics.lag_seconds.labels(number).set(part.lag_s(now_ms))
        if progress.last_commit_monotonic_s is not None:
            metrics.commit_age_seconds.set(time.monotonic() - progress.last_commit_monotonic_s)
        metrics.users.set(sum(self.users.partition(each).size for each in self.users.partitions))
        metrics.standbys.update(progress.standbys)
        metrics.ready.set(progress.recovered)
        metrics.archive_wanted.set(self.archive is not None)
        metrics.archive.set(self.archive is not None and self.archive.running)
        digests = self.handler.digests
        metrics.caps.tell(self.handler.policy)
        metrics.info.clear()
        metrics.info.labels(digests.model, digests.policy, digests.encoder, __version__).set(1)
        self._tell_of_models()
        return metrics.page()

    def _tell_of_models(self) -> None:
        metrics = self.metrics
        # With a repository the model of the settings may have been put aside.
        predictor = self.predictor if self.rollout is None else self.rollout.predictor
        if isinstance(predictor, CountsCalls):
            metrics.count_calls(predictor.call_counts())
        if isinstance(predictor, CountsCache) and (cached := predictor.cache_counts()) is not None:
            metrics.count_cache(cached)
        metrics.models.drift.clear()
        if self.drift.drift is not None:
            for name, value in self.drift.drift.figures().items():
                metrics.models.drift.labels(name).set(value)
        if self.rollout is not None:
            self.rollout.tell(metrics.models)
