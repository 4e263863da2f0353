"""What is known of a candidate beside the champion: sums over a sample, which add up over workers.

Every figure compares both models on the same live decisions, so that what the day brings - a sale,
a bot, an outage of the shop - hits both alike and breaks no guard.

    log loss     mean of -log p(what came next), in nats; the difference of both has a standard
                 error, and a guard breaks only when the difference less two of them is too much
    calibration  how far the mean probability of the likeliest action is from its rate
    PSI          population stability index of the purchase scores, over fixed bins
    agreement    share of decisions that the policy would make alike on the other's scores
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log, sqrt
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from clickpath.scores import Scores
from serving.reference import BINS, psi, purchase_bin
from stream.models.record import Guards

#: The least sizes of a sample that a guard looks at.
LEAST_PAIRS: Final = 100
LEAST_OUTCOMES: Final = 30
LEAST_CALLS: Final = 20

_ERRORS: Final = 2.0
_FLOOR: Final = 1e-6

_Bins = Annotated[list[int], Field(min_length=BINS, max_length=BINS)]


class Evidence(BaseModel):
    """Sums over a sample; the figures that they come to are its properties.

    Attributes:
        pairs: Paths that both models scored.
        difference: Sum of the absolute differences of the purchase scores.
        agreed: Decisions that would be the same.
        champion_bins: Purchase scores of the champion, by bin.
        candidate_bins: Those of the candidate.
        outcomes: Pairs of which it is known what came next.
        champion_loss: Sum of the champion's log losses.
        candidate_loss: Sum of the candidate's.
        squared: Sum of the squared differences of both.
        champion_sure: Sum of the champion's largest probabilities.
        champion_right: How often that action came.
        candidate_sure: The same for the candidate.
        candidate_right: The same for the candidate.
        calls: How often the candidate was asked.
        failures: How often it gave no scores.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    pairs: int = 0
    difference: float = 0.0
    agreed: int = 0
    champion_bins: _Bins = [0] * BINS
    candidate_bins: _Bins = [0] * BINS
    outcomes: int = 0
    champion_loss: float = 0.0
    candidate_loss: float = 0.0
    squared: float = 0.0
    champion_sure: float = 0.0
    champion_right: int = 0
    candidate_sure: float = 0.0
    candidate_right: int = 0
    calls: int = 0
    failures: int = 0

    def add_pair(self, champion: Scores, candidate: Scores, agreed: bool) -> None:
        """Adds a path that both have scored."""
        self.pairs += 1
        self.difference += abs(champion.purchase - candidate.purchase)
        self.agreed += agreed
        self.champion_bins[purchase_bin(champion.purchase)] += 1
        self.candidate_bins[purchase_bin(candidate.purchase)] += 1

    def add_outcome(
        self, champion: Sequence[float], candidate: Sequence[float], action: int
    ) -> None:
        """Adds what came after such a path.

        Args:
            champion: Probability of each action, by action id.
            candidate: The same.
            action: Id of the one that came.
        """
        losses = [-log(max(said[action], _FLOOR)) for said in (champion, candidate)]
        self.outcomes += 1
        self.champion_loss += losses[0]
        self.candidate_loss += losses[1]
        self.squared += (losses[1] - losses[0]) ** 2
        self.champion_sure += max(champion)
        self.candidate_sure += max(candidate)
        self.champion_right += champion[action] == max(champion)
        self.candidate_right += candidate[action] == max(candidate)

    @property
    def log_loss_excess(self) -> float:
        """The candidate's log loss less the champion's."""
        return (self.candidate_loss - self.champion_loss) / max(self.outcomes, 1)

    @property
    def standard_error(self) -> float:
        """Of `log_loss_excess`."""
        n, mean = max(self.outcomes, 1), self.log_loss_excess
        return sqrt(max(self.squared / n - mean * mean, 0.0) / n)

    @property
    def calibration_excess(self) -> float:
        """The candidate's calibration gap less the champion's."""
        champion, candidate = (
            abs(sure - right) / max(self.outcomes, 1)
            for sure, right in (
                (self.champion_sure, self.champion_right),
                (self.candidate_sure, self.candidate_right),
            )
        )
        return candidate - champion

    @property
    def psi(self) -> float:
        """Population stability index between the purchase scores of both."""
        return psi(self.champion_bins, self.candidate_bins)

    @property
    def agreement(self) -> float:
        """Share of the decisions that would be the same; 1 when none is known."""
        return self.agreed / self.pairs if self.pairs else 1.0

    def figures(self) -> dict[str, float]:
        """All that is known, under the names that commands print."""
        n = max(self.outcomes, 1)
        return {
            "pairs": self.pairs,
            "mean_difference": round(self.difference / max(self.pairs, 1), 5),
            "psi": round(self.psi, 4),
            "agreement": round(self.agreement, 4),
            "outcomes": self.outcomes,
            "champion_log_loss": round(self.champion_loss / n, 4),
            "candidate_log_loss": round(self.candidate_loss / n, 4),
            "log_loss_excess": round(self.log_loss_excess, 4),
            "calibration_excess": round(self.calibration_excess, 4),
            "calls": self.calls,
            "failures": self.failures,
        }

    def broken(self, guards: Guards) -> str | None:
        """Which guard is broken, in a sentence; None while all hold."""
        share = self.failures / max(self.calls, 1)
        surely = self.log_loss_excess - _ERRORS * self.standard_error
        # A gap is a mean of n values between -1 and 1, of either model.
        unsure = _ERRORS * sqrt(0.5 / max(self.outcomes, 1))
        for enough, value, bound, what in (
            (self.calls >= LEAST_CALLS, share, guards.failures, "of its calls failed"),
            (
                self.outcomes >= LEAST_OUTCOMES,
                surely,
                guards.log_loss_excess,
                "nats of log loss above the champion's, for sure",
            ),
            (
                self.outcomes >= LEAST_OUTCOMES,
                self.calibration_excess - unsure,
                guards.calibration_excess,
                "further off in calibration than the champion, for sure",
            ),
            (self.pairs >= LEAST_PAIRS, self.psi, guards.psi, "as PSI of the purchase scores"),
            (
                self.pairs >= LEAST_PAIRS,
                1 - self.agreement,
                1 - guards.agreement,
                "of the decisions would be others",
            ),
        ):
            if enough and value > bound:
                return f"{value:.3f} {what}; {bound:g} is allowed"
        return None


def added(many: Iterable[Evidence]) -> Evidence:
    """The evidence of several workers as one."""
    total = Evidence()
    for each in many:
        for name in Evidence.model_fields:
            mine, theirs = getattr(total, name), getattr(each, name)
            if isinstance(mine, list):
                setattr(total, name, [a + b for a, b in zip(mine, theirs, strict=True)])
            else:
                setattr(total, name, mine + theirs)
    return total
