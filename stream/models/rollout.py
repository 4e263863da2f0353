"""A worker's part in rollouts: load, switch, measure, go on, roll back.

Rules

1.  Every worker follows the topic, switches by what stands there, and tries the candidate on its
    own decisions. What it sees it reports.
2.  Whatever worker sees a guard broken goes back to the champion at once, by itself, and then
    writes the rollback for the others. So a rollback needs neither the worker that leads nor the
    broker.
3.  The worker that owns partition 0 leads: it adds up the reports (`stream.models.reports`), and
    writes the record of the next step when the time is over and enough outcomes are known. There
    is such a worker whenever there is any, no more than one, and its successor goes on from the
    record.
4.  A version that cannot be loaded changes nothing here: the model at work stays at work. If it is
    a candidate it is rolled back; if it is the champion it is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

from aiokafka.errors import KafkaError

from clickpath.encoding import Encoder
from clickpath.errors import FatalError, NewerVersion, PredictorError
from clickpath.policy import Policy
from serving.late import LatePredictor
from serving.predictor import Predictor
from serving.switching import FAILURES_IN_A_ROW, Candidacy, SwitchingPredictor, Version
from serving.versions import ModelSource
from stream.handler import Outcome
from stream.metrics import ModelGauges
from stream.models.evidence import Evidence
from stream.models.phase import PhaseCount
from stream.models.record import ACTIVE_KEY, Standing, advanced, rolled_back, to_json
from stream.models.reports import Reports
from stream.models.topic import Follower, Known, Writer
from stream.models.trial import Trial

logger = logging.getLogger(__name__)

#: Between two tries to load or to write, and after the broker refused.
_AGAIN_S: Final = 5.0
_PAUSE_S: Final = 1.0

#: For a worker's last report: a broker out of reach holds no stop up for longer.
_LAST_S: Final = 5.0

#: How often a candidate is tried to be loaded: its files may still be on their way to this worker.
_LOADS: Final = 3


class Rollout:
    """Keeps one worker's predictor as the topic says.

    Args:
        predictor: What the handler asks.
        source: Where versions come from.
        follower: Reads the topic into `known`.
        known: What the topic says.
        writer: Writes to it.
        owned: The partitions of the clicks that this worker has at present.
        policy: For the comparison of decisions.
        encoder: Of the paths.
        decisions: Name of the topic of decisions.
        deadline_s: For a call to a candidate.
        clock: The present in epoch milliseconds.
    """

    def __init__(
        self,
        *,
        predictor: SwitchingPredictor,
        source: ModelSource,
        follower: Follower,
        known: Known,
        writer: Writer,
        owned: Callable[[], Collection[int]],
        policy: Policy,
        encoder: Encoder,
        decisions: str,
        deadline_s: float,
        clock: Callable[[], int],
    ) -> None:
        self.predictor = predictor
        self.known = known
        self._source = source
        self._follower = follower
        self._writer = writer
        self._reports = Reports(known, writer.send)
        self._owned = owned
        self._new_trial = lambda champion, candidate: Trial(
            champion, candidate, policy, encoder, decisions, deadline_s
        )
        self._clock = clock
        self._trial: Trial | None = None
        self._applied: Standing | None = None
        self._loads = 0
        self._failed: Standing | None = None
        self._again_s = 0.0
        self._given_up = ("", "")
        self._written = (0, 0.0)
        self._phase = PhaseCount()
        self._task: asyncio.Task[None] | None = None

    @property
    def evidence(self) -> Evidence | None:
        """What this worker knows of the candidate; None when there is none."""
        return self._trial.evidence if self._trial is not None else None

    async def start(self) -> None:
        """Comes to where the topic is now, and then follows it.

        Raises:
            UsageError: There is no such topic.
        """
        await self._follower.start()
        await self._writer.start()
        await self._apply()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_tell)

    @property
    def ended(self) -> bool:
        """Whether following has ended, though nobody stopped it."""
        return self._task is not None and self._task.done()

    async def stop(self) -> None:
        """Ends following, with a last report; the predictor stays as it is."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._trial is not None:
            await self._trial.stop()
            await self._tell_last(self._trial.evidence)
        await self._follower.stop()
        await self._writer.stop()

    async def close(self) -> None:
        """Closes the versions, and where they come from."""
        await self.predictor.close()
        await self._source.close()

    def tell(self, gauges: ModelGauges) -> None:
        """Brings the gauges up to date."""
        champion, candidacy = self.predictor.champion, self.predictor.candidacy
        for gauge in (gauges.share, gauges.paths, gauges.candidate):
            gauge.clear()
        share = candidacy.share if candidacy is not None else 0.0
        gauges.share.labels(champion.digest, "champion").set(1 - share)
        gauges.paths.labels(champion.digest).set(champion.paths)
        if candidacy is not None:
            gauges.share.labels(candidacy.version.digest, "candidate").set(share)
            gauges.paths.labels(candidacy.version.digest).set(candidacy.version.paths)
        if self._trial is not None:
            for name, value in self._trial.evidence.figures().items():
                gauges.candidate.labels(name).set(value)
        standing = self.known.standing
        gauges.rolled_back.set(standing is not None and standing.phase == "rolled-back")
        gauges.refused.set(self._failed is not None)

    def after_chunk(self, partition: int, outcome: Outcome) -> None:
        """Looks at what a chunk of a partition came to; nothing waits."""
        if self._trial is not None:
            self._trial.after_chunk(partition, outcome.outputs, outcome.users, outcome.erased)

    async def _run(self) -> None:
        while True:
            try:
                await self._follower.read()
                await self._apply()
                await self._judge()
            except KafkaError as error:
                logger.warning("the models topic is out of reach, what is known goes on: %r", error)
                await asyncio.sleep(_PAUSE_S)

    # Switching

    async def _apply(self) -> None:
        """Switches to what the topic says, as far as it can be loaded."""
        standing = self.known.standing
        if standing is None or standing is self._applied:
            return
        if standing is self._failed and self._now_s() < self._again_s:
            return
        tried = standing.trying and standing.rollout != self._given_up[0]
        candidacy, complete = None, True
        try:
            champion = await self._loaded(standing.champion)
        except (FatalError, PredictorError) as error:
            self._cannot_load(standing, error)
            return
        try:
            candidacy = await self._candidacy(standing) if tried else None
        except (FatalError, PredictorError) as error:
            self._cannot_load(standing, error, candidate=True)
            # The champion decides meanwhile, alone.
            complete = False
        if self._trial is not None and not self._tries(candidacy):
            await self._end_trial()
        await self.predictor.use(champion, candidacy)
        if candidacy is not None and self._trial is None:
            self._trial = self._new_trial(self.predictor.champion, candidacy.version)
        if not complete:
            return
        self._applied, self._failed = standing, None
        logger.info(
            "models: %s, champion %s, candidate %s at %g %%: %s",
            *(standing.phase, standing.champion, standing.candidate, standing.share_pct),
            standing.reason,
        )

    def _tries(self, candidacy: Candidacy | None) -> bool:
        """Whether this candidate, of this rollout, is at work already."""
        at_work = self.predictor.candidacy
        if at_work is None or candidacy is None:
            return False
        return at_work.rollout == candidacy.rollout

    async def _candidacy(self, standing: Standing) -> Candidacy:
        assert standing.candidate is not None
        at_work = self.predictor.candidacy
        if at_work is not None and at_work.rollout == standing.rollout:
            version = at_work.version
        else:
            version = Version(await self._source.load(standing.candidate))
        return Candidacy(version, standing.rollout, standing.share_pct / 100)

    def _cannot_load(
        self, standing: Standing, error: Exception, *, candidate: bool = False
    ) -> None:
        """Notes that it is to be tried again, or to be given up if it is the candidate."""
        what = f"candidate {standing.candidate}" if candidate else f"champion {standing.champion}"
        champion = self.predictor.champion.predictor
        if not candidate and isinstance(champion, LatePredictor) and champion.why is not None:
            champion.tell(str(error))
        else:
            logger.error("%s is not loaded, %s decides: %s", what, self.predictor.digest, error)
        if standing is not self._failed:
            self._loads = 0
        self._loads += candidate
        self._failed, self._again_s = standing, self._now_s() + _AGAIN_S
        if self._loads >= _LOADS:
            self._given_up = standing.rollout, f"a worker cannot load a model: {error}"
            self._again_s = 0.0

    async def _loaded(self, version: str) -> Predictor:
        at_work = [self.predictor.champion]
        if self.predictor.candidacy is not None:
            at_work.append(self.predictor.candidacy.version)
        for each in at_work:
            away = isinstance(each.predictor, LatePredictor) and each.predictor.why is not None
            if each.digest == version and not away:
                return each.predictor
        return await self._source.load(version)

    async def _end_trial(self) -> None:
        if self._trial is not None:
            await self._trial.stop()
            self._trial = None

    # Judging

    async def _judge(self) -> None:
        """Rolls back, reports, and leads if it is this worker's turn."""
        standing, owned = self.known.standing, self._owned()
        leads = 0 in owned
        if standing is not None and self.known.outdated and leads:
            # The topic would be compacted to a record that nobody takes.
            await self._write(standing.model_copy(update={"number": standing.number + 1}))
            return
        if standing is not None and leads:
            await self._reports.remove_all_but(standing.rollout)
        if standing is None or not standing.trying:
            return
        if standing.rollout == self._given_up[0]:
            # Until it is read back: the broker may have been out of reach.
            await self._write(rolled_back(standing, self._clock(), self._given_up[1]))
            return
        candidacy, trial = self.predictor.candidacy, self._trial
        if standing is not self._applied or candidacy is None or trial is None:
            return
        trial.keep(owned)
        mine = trial.evidence
        reason = mine.broken(standing.guards)
        if candidacy.version.given_up:
            reason = f"it failed {FAILURES_IN_A_ROW} times in a row"
        if reason is None and leads:
            reason = await self._led(standing, mine)
        if reason is not None:
            logger.error("candidate %s is rolled back: %s", standing.candidate, reason)
            self._given_up = standing.rollout, reason
            await self.predictor.use(self.predictor.champion.predictor)
            await self._end_trial()
            await self._write(rolled_back(standing, self._clock(), reason))
        ended = reason is not None
        await self._reports.tell(standing.rollout, mine, self._now_s(), at_once=ended)

    async def _led(self, standing: Standing, mine: Evidence) -> str | None:
        """Goes on when it is time; why to roll back, if all workers together know a reason."""
        every = self._reports.every(standing.rollout, mine)
        reason = every.broken(standing.guards)
        if reason is not None:
            return f"{reason} (all workers together)"
        outcomes, now_ms = self._phase.outcomes(standing.number, every), self._clock()
        if standing.phase_over(now_ms, outcomes, every.purchase.outcomes):
            await self._write(advanced(standing, now_ms))
        return None

    async def _tell_last(self, seen: Evidence) -> None:
        """Reports for the last time, or says that it could not."""
        assert self._applied is not None
        try:
            async with asyncio.timeout(_LAST_S):
                await self._reports.tell(self._applied.rollout, seen, self._now_s(), at_once=True)
        except (KafkaError, TimeoutError) as error:
            logger.warning("what this worker saw last of the candidate is lost: %r", error)

    async def _write(self, standing: Standing) -> None:
        """Writes a record, which comes back with what is read next; not twice at once."""
        number, at_s = self._written
        if number == standing.number and self._now_s() < at_s + _AGAIN_S:
            return
        await self._writer.send(ACTIVE_KEY, to_json(standing))
        self._written = standing.number, self._now_s()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        said = isinstance(error, NewerVersion)
        logger.critical(
            "the models topic is not followed any more: %s",
            error if said else repr(error),
            exc_info=None if said else error,
        )
