"""What two models foretold and what came: sums that add up, and how sure their differences are."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt
from typing import Final

from pydantic import BaseModel, ConfigDict

#: Standard errors that a difference has to be above what is allowed, to be so for sure.
ERRORS: Final = 2.0

#: The least probability, and the least time, of which a logarithm is taken.
FLOOR: Final = 1e-6


class Foretold(BaseModel):
    """Sums over what both models foretold and what came.

    Attributes:
        outcomes: Of how many it is known.
        champion_loss: Sum of the champion's log losses.
        candidate_loss: Sum of the candidate's.
        squared: Sum of the squared differences of both.
        champion_sure: Sum of the probabilities that the champion gave to what it said.
        champion_right: How often that came.
        candidate_sure: The same for the candidate.
        candidate_right: The same for the candidate.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    outcomes: int = 0
    champion_loss: float = 0.0
    candidate_loss: float = 0.0
    squared: float = 0.0
    champion_sure: float = 0.0
    champion_right: int = 0
    candidate_sure: float = 0.0
    candidate_right: int = 0

    def add_action(
        self, champion: Sequence[float], candidate: Sequence[float], action: int
    ) -> None:
        """Adds which action came next.

        Args:
            champion: Probability of each action, by action id.
            candidate: The same.
            action: Id of the one that came.
        """
        self._add_losses(champion[action], candidate[action])
        self.champion_sure += max(champion)
        self.candidate_sure += max(candidate)
        self.champion_right += champion[action] == max(champion)
        self.candidate_right += candidate[action] == max(candidate)

    def add_yes_or_no(self, champion: float, candidate: float, came: bool) -> None:
        """Adds whether something came, beside the probabilities that both gave it."""
        self._add_losses(*(p if came else 1 - p for p in (champion, candidate)))
        self.champion_sure += champion
        self.candidate_sure += candidate
        self.champion_right += came
        self.candidate_right += came

    def _add_losses(self, champion: float, candidate: float) -> None:
        """Adds what both gave to what came."""
        ours, theirs = (-log(max(p, FLOOR)) for p in (champion, candidate))
        self.outcomes += 1
        self.champion_loss += ours
        self.candidate_loss += theirs
        self.squared += (theirs - ours) ** 2

    @property
    def log_loss_excess(self) -> float:
        """The candidate's log loss less the champion's."""
        return (self.candidate_loss - self.champion_loss) / max(self.outcomes, 1)

    @property
    def standard_error(self) -> float:
        """Of `log_loss_excess`."""
        return standard_error(self.outcomes, self.log_loss_excess, self.squared)

    @property
    def surely_worse(self) -> float:
        """By how much its log loss is above the champion's at least, for sure."""
        return self.log_loss_excess - ERRORS * self.standard_error

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
    def surely_further_off(self) -> float:
        """By how much it is further off in calibration at least, for sure."""
        n = max(self.outcomes, 1)
        rates = (self.champion_right / n, self.candidate_right / n)
        # A gap is the mean of n values around a rate, of either model; both may be off by chance.
        variance = sum(max(rate * (1 - rate), 1 / n) for rate in rates)
        return self.calibration_excess - ERRORS * sqrt(variance / n)


def standard_error(n: int, mean: float, squared: float) -> float:
    """The standard error of the mean of n values whose squares sum to `squared`."""
    many = max(n, 1)
    return sqrt(max(squared / many - mean * mean, 0.0) / many)
