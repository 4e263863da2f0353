"""What a model says about a path."""

from __future__ import annotations

from dataclasses import dataclass

from clickpath.vocabulary import ACTION_COUNT, ACTION_ID


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities that a model gives for one path.

    Attributes:
        next_action: Probability of each action to be the next, by action id; entry 0 (padding)
            is 0 and the rest sum to 1.
        purchase: Probability of a purchase in the rest of the session.
    """

    next_action: tuple[float, ...]
    purchase: float

    def __post_init__(self) -> None:
        if len(self.next_action) != ACTION_COUNT:
            raise ValueError(f"{len(self.next_action)} probabilities, expected {ACTION_COUNT}")
        # Written so that NaN fails it too.
        if not 0.0 <= self.purchase <= 1.0:
            raise ValueError(f"purchase probability {self.purchase} is not between 0 and 1")

    def of(self, action: str) -> float:
        """Probability that `action` (a canonical name) is the next."""
        return self.next_action[ACTION_ID[action]]
