"""Two versions of a model behind one predictor: the champion, and perhaps a candidate.

Rules

1.  Which of them scores a path follows from its user, the rollout and the candidate's share, and
    from nothing else: a user stays with her model while the share stands, goes over to the
    candidate at most once while it grows, and a repeat after a crash asks the model that the
    first try asked. Paths without a user are the champion's.
2.  Scores say which model they come from, so that a switch may come between any two calls.
3.  The candidate is asked first and for half of the time. If it fails, the champion scores its
    paths in the time that is left, so that a candidate costs no answer and no deadline.
4.  A candidate that fails `FAILURES_IN_A_ROW` times in a row is not asked any more. A failure of
    its server's is not its own: where the champion cannot be asked either, it does not count.
5.  A model that is put aside is closed when the calls that it has in hand have ended.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from clickpath.errors import PredictorError, PredictorUnavailable
from clickpath.ids import draw
from clickpath.scores import Scores
from serving.cache_counts import CacheCounts, CountsCache
from serving.call_counts import CallCounts, CountsCalls
from serving.predictor import Predictor

#: Of the candidate, after which it is not asked any more.
FAILURES_IN_A_ROW: Final = 3


@dataclass(slots=True, eq=False)
class Version:
    """A model at work.

    Attributes:
        predictor: It.
        paths: How many it has scored.
        calls: How often it was asked.
        failures: How often it gave no scores.
        in_a_row: How often it gave none since it last gave some.
        in_hand: Calls that have not ended.
        put_aside: Whether it is to be closed when they have.
    """

    predictor: Predictor
    paths: int = 0
    calls: int = 0
    failures: int = 0
    in_a_row: int = 0
    in_hand: int = 0
    put_aside: bool = False

    @property
    def digest(self) -> str:
        """Of the model."""
        return self.predictor.digest

    @property
    def given_up(self) -> bool:
        """Whether it has failed too often in a row."""
        return self.in_a_row >= FAILURES_IN_A_ROW

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keeps it open until the end of the block, also when it is put aside meanwhile."""
        self.in_hand += 1
        try:
            yield
        finally:
            self.in_hand -= 1
            if self.put_aside and not self.in_hand:
                await self.predictor.close()

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        keys: Sequence[bytes] | None = None,
    ) -> list[Scores]:
        """The model's scores, which say that they are its."""
        digest = self.digest
        self.calls += 1
        try:
            async with self.held():
                answers = await self.predictor.predict(paths, deadline_s, keys=keys)
        except PredictorError:
            self.failures += 1
            self.in_a_row += 1
            raise
        self.paths += len(paths)
        self.in_a_row = 0
        return [replace(scores, model=digest) for scores in answers]

    def excuse(self) -> None:
        """Takes its last failure from the counts."""
        self.calls -= 1
        self.failures -= 1
        # It may have given scores since.
        self.in_a_row = max(self.in_a_row - 1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Candidacy:
    """A candidate and its part in the decisions.

    Attributes:
        version: It.
        rollout: Id of the rollout, which decides whose paths come first.
        share: Of the users, from 0 to 1.
    """

    version: Version
    rollout: str
    share: float

    def has(self, key: bytes) -> bool:
        """Whether it scores the paths of a user."""
        return self.share > 0 and of_candidate(self.rollout, key.decode(), self.share)


def of_candidate(rollout: str, user_id: str, share: float) -> bool:
    """Whether the candidate of a rollout scores the paths of a user."""
    return draw("rollout", rollout, user_id) < share


class SwitchingPredictor:
    """See the rules above, and `serving.predictor.Predictor` for the contract.

    Args:
        champion: Scores everything until `use` says otherwise.
    """

    def __init__(self, champion: Predictor) -> None:
        self.champion = Version(champion)
        self.candidacy: Candidacy | None = None
        self._put_aside: list[CallCounts] = []
        self._cached_aside: list[CacheCounts] = []

    @property
    def digest(self) -> str:
        """Of the champion: what stands for decisions that needed no scores."""
        return self.champion.digest

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder that all versions understand."""
        return self.champion.predictor.encoder_fingerprint

    async def use(self, champion: Predictor, candidacy: Candidacy | None = None) -> None:
        """Switches; the next call is scored by these, and what is not among them is put aside."""
        before = self._at_work()
        if champion is not self.champion.predictor:
            known = [each for each in before if each.predictor is champion]
            self.champion = known[0] if known else Version(champion)
        self.candidacy = candidacy
        after = self._at_work()
        for each in before:
            if each not in after:
                if isinstance(each.predictor, CountsCalls):
                    self._put_aside = [_sum([*self._put_aside, each.predictor.call_counts()])]
                if (counts := _cached(each)) is not None:
                    self._cached_aside = [_sum_cached([*self._cached_aside, counts.emptied()])]
                each.put_aside = True
                if not each.in_hand:
                    await each.predictor.close()

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        *,
        keys: Sequence[bytes] | None = None,
    ) -> Sequence[Scores]:
        """Scores paths; one result each, in the order of the paths."""
        champion, candidacy = self.champion, self.candidacy
        idle = candidacy is None or not candidacy.share or candidacy.version.given_up
        if candidacy is None or idle or keys is None:
            return await champion.predict(paths, deadline_s, keys)
        begun_s = asyncio.get_running_loop().time()
        theirs = [n for n, key in enumerate(keys) if candidacy.has(key)]
        # While the candidate is asked it may become the champion, and this one is still needed.
        async with champion.held():
            results = await self._asked(candidacy.version, theirs, paths, keys, deadline_s / 2)
            rest = [n for n in range(len(paths)) if n not in results]
            if rest:
                left_s = deadline_s - (asyncio.get_running_loop().time() - begun_s)
                some = [paths[n] for n in rest]
                try:
                    answers = await champion.predict(
                        some, max(left_s, 0.0), [keys[n] for n in rest]
                    )
                except PredictorUnavailable:
                    if theirs and not results:
                        candidacy.version.excuse()
                    raise
                results.update(zip(rest, answers, strict=True))
        return [results[n] for n in range(len(paths))]

    async def _asked(
        self,
        candidate: Version,
        theirs: Sequence[int],
        paths: Sequence[array[int]],
        keys: Sequence[bytes],
        deadline_s: float,
    ) -> dict[int, Scores]:
        """The candidate's scores by position; none when it fails."""
        if not theirs:
            return {}
        some = [paths[n] for n in theirs]
        try:
            answers = await candidate.predict(some, deadline_s, [keys[n] for n in theirs])
        except PredictorError:
            # Nothing is hidden by it: the version counts its failures, and a guard reads them.
            return {}
        return dict(zip(theirs, answers, strict=True))

    def call_counts(self) -> CallCounts:
        """Calls over the network of all versions so far; the breaker is the champion's."""
        counting = [each.predictor for each in self._at_work()]
        counts = [each.call_counts() for each in counting if isinstance(each, CountsCalls)]
        total = _sum([*self._put_aside, *counts])
        total.breaker = counts[0].breaker if counts else "closed"
        return total

    def cache_counts(self) -> CacheCounts | None:
        """What the caches of all versions have done so far; None where there has been none."""
        at_work = [_cached(each) for each in self._at_work()]
        every = [*self._cached_aside, *(counts for counts in at_work if counts is not None)]
        return _sum_cached(every) if every else None

    async def close(self) -> None:
        """Closes all versions."""
        for each in self._at_work():
            await each.predictor.close()

    def _at_work(self) -> list[Version]:
        versions: Iterable[Version | None] = (
            self.champion,
            self.candidacy.version if self.candidacy is not None else None,
        )
        return [each for each in versions if each is not None]


def _sum(many: Iterable[CallCounts]) -> CallCounts:
    total = CallCounts()
    for each in many:
        total.calls.update(each.calls)
        total.retries += each.retries
        total.refused += each.refused
    return total


def _cached(version: Version) -> CacheCounts | None:
    predictor = version.predictor
    return predictor.cache_counts() if isinstance(predictor, CountsCache) else None


def _sum_cached(many: Iterable[CacheCounts]) -> CacheCounts:
    total = CacheCounts()
    for each in many:
        total = total.plus(each)
    return total
