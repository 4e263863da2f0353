"""What is known of a candidate beside the champion: sums over a sample, which add up over workers.

Every figure compares both models on the same live decisions, so that what the day brings - a sale,
a bot, an outage of the shop - hits both alike and breaks no guard.

    log loss     mean of -log p(what came), in nats, of the next action, of a purchase in the rest
                 of the session, and of the session's end; the difference of both has a standard
                 error, and a guard breaks only when the difference less two of them is too much
    calibration  how far the mean probability of the likeliest action is from its rate, and the mean
                 probability of a purchase, or of the session's end, from how often it came
    PSI          population stability index of the purchase scores, over fixed bins
    agreement    share of decisions that the policy would make alike on the other's scores
    slowdown     the candidate's time over the champion's for the same paths, geometric mean
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from clickpath.scores import Scores
from serving.reference import BINS, psi, purchase_bin
from stream.models.foretold import ERRORS, FLOOR, Foretold, standard_error
from stream.models.record import Guards

#: The least sizes of a sample that a guard looks at.
LEAST_PAIRS: Final = 100
LEAST_OUTCOMES: Final = 30
LEAST_SESSIONS: Final = 100
LEAST_CALLS: Final = 20
LEAST_TIMED: Final = 20


_Bins = Annotated[list[int], Field(min_length=BINS, max_length=BINS)]
_Sums = TypeVar("_Sums", bound=BaseModel)


class Evidence(BaseModel):
    """Sums over a sample; the figures that they come to are its properties.

    Attributes:
        pairs: Paths that both models scored.
        difference: Sum of the absolute differences of the purchase scores.
        agreed: Decisions that would be the same.
        champion_bins: Purchase scores of the champion, by bin.
        candidate_bins: Those of the candidate.
        action: What came next.
        purchase: Whether a purchase came in the rest of the session, once that has ended.
        leave: Whether the session ended there, of the models that say so, once it has ended.
        calls: How often the candidate was asked.
        failures: How often it gave no scores.
        timed: How often both were asked about the same paths, one after the other.
        champion_s: Sum of the champion's times of these.
        candidate_s: Sum of the candidate's.
        slower: Sum of the logarithms of the candidate's time over the champion's.
        slower_squared: Sum of their squares.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    pairs: int = 0
    difference: float = 0.0
    agreed: int = 0
    champion_bins: _Bins = [0] * BINS
    candidate_bins: _Bins = [0] * BINS
    action: Foretold = Field(default_factory=Foretold)
    purchase: Foretold = Field(default_factory=Foretold)
    leave: Foretold = Field(default_factory=Foretold)
    calls: int = 0
    failures: int = 0
    timed: int = 0
    champion_s: float = 0.0
    candidate_s: float = 0.0
    slower: float = 0.0
    slower_squared: float = 0.0

    def add_pair(self, champion: Scores, candidate: Scores, agreed: bool) -> None:
        """Adds a path that both have scored."""
        self.pairs += 1
        self.difference += abs(champion.purchase - candidate.purchase)
        self.agreed += agreed
        self.champion_bins[purchase_bin(champion.purchase)] += 1
        self.candidate_bins[purchase_bin(candidate.purchase)] += 1

    def add_times(self, champion_s: float, candidate_s: float) -> None:
        """Adds how long both took for the same paths."""
        slower = log(max(candidate_s, FLOOR) / max(champion_s, FLOOR))
        self.timed += 1
        self.champion_s += champion_s
        self.candidate_s += candidate_s
        self.slower += slower
        self.slower_squared += slower**2

    @property
    def psi(self) -> float:
        """Population stability index between the purchase scores of both."""
        return psi(self.champion_bins, self.candidate_bins)

    @property
    def agreement(self) -> float:
        """Share of the decisions that would be the same; 1 when none is known."""
        return self.agreed / self.pairs if self.pairs else 1.0

    @property
    def slowdown(self) -> float:
        """How many times as long as the champion it takes; 1 when nothing is known."""
        return exp(self.slower / max(self.timed, 1))

    @property
    def _surely_slower(self) -> float:
        mean = self.slower / max(self.timed, 1)
        return exp(mean - ERRORS * standard_error(self.timed, mean, self.slower_squared))

    def figures(self) -> dict[str, float]:
        """All that is known, under the names that commands print."""
        figures: dict[str, float] = {
            "pairs": self.pairs,
            "mean_difference": round(self.difference / max(self.pairs, 1), 5),
            "psi": round(self.psi, 4),
            "agreement": round(self.agreement, 4),
        }
        for outcomes, head, of in (
            ("outcomes", "", self.action),
            ("sessions", "purchase_", self.purchase),
            ("leave_sessions", "leave_", self.leave),
        ):
            n = max(of.outcomes, 1)
            figures |= {
                outcomes: of.outcomes,
                f"{head}champion_log_loss": round(of.champion_loss / n, 4),
                f"{head}candidate_log_loss": round(of.candidate_loss / n, 4),
                f"{head}log_loss_excess": round(of.log_loss_excess, 4),
                f"{head}calibration_excess": round(of.calibration_excess, 4),
            }
        return figures | {
            "calls": self.calls,
            "failures": self.failures,
            "timed": self.timed,
            "champion_ms": round(1_000 * self.champion_s / max(self.timed, 1), 3),
            "candidate_ms": round(1_000 * self.candidate_s / max(self.timed, 1), 3),
            "slowdown": round(self.slowdown, 3),
        }

    def broken(self, guards: Guards) -> str | None:
        """Which guard is broken, in a sentence; None while all hold."""
        for enough, value, bound, what in self._guarded(guards):
            if enough and value > bound:
                return f"{value:.3f} {what}; {bound:g} is allowed"
        return None

    def _guarded(self, guards: Guards) -> Iterable[tuple[bool, float, float, str]]:
        """Whether enough is known, what is, what is allowed, and what it is called."""
        share = self.failures / max(self.calls, 1)
        yield self.calls >= LEAST_CALLS, share, guards.failures, "of its calls failed"
        for enough, of, loss, calibration, head in (
            (
                self.action.outcomes >= LEAST_OUTCOMES,
                self.action,
                guards.log_loss_excess,
                guards.calibration_excess,
                "",
            ),
            (
                self.purchase.outcomes >= LEAST_SESSIONS,
                self.purchase,
                guards.purchase_log_loss_excess,
                guards.purchase_calibration_excess,
                " of purchases",
            ),
            (
                self.leave.outcomes >= LEAST_SESSIONS,
                self.leave,
                guards.leave_log_loss_excess,
                guards.leave_calibration_excess,
                " of sessions' ends",
            ),
        ):
            what = f"nats of log loss{head} above the champion's, for sure"
            yield enough, of.surely_worse, loss, what
            what = f"further off in calibration{head} than the champion, for sure"
            yield enough, of.surely_further_off, calibration, what
        pairs = self.pairs >= LEAST_PAIRS
        yield pairs, self.psi, guards.psi, "as PSI of the purchase scores"
        others = "of the decisions would be others"
        yield pairs, 1 - self.agreement, 1 - guards.agreement, others
        times = "times as long as the champion it takes, for sure"
        yield self.timed >= LEAST_TIMED, self._surely_slower, guards.slowdown, times


def added(many: Iterable[Evidence]) -> Evidence:
    """The evidence of several workers as one."""
    total = Evidence()
    for each in many:
        _add(total, each)
    return total


def _add(total: _Sums, each: _Sums) -> None:
    for name in type(total).model_fields:
        mine, theirs = getattr(total, name), getattr(each, name)
        if isinstance(mine, BaseModel):
            _add(mine, theirs)
        elif isinstance(mine, list):
            setattr(total, name, [a + b for a, b in zip(mine, theirs, strict=True)])
        else:
            setattr(total, name, mine + theirs)
