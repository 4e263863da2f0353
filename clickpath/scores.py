"""What a model says about a path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from clickpath.vocabulary import ACTION_COUNT, ACTION_ID


class Candidate(NamedTuple):
    """A token that may come next.

    Attributes:
        token: Its hash, as in `clickpath.steps.Step`.
        probability: Of it, among all tokens that the model knows.
    """

    token: int
    probability: float


class OtherScores(NamedTuple):
    """What a model says beside the two scores that decisions need; each as far as it has a head.

    Attributes:
        leave: Probability that the session ends here.
        return_7d: Probability of a new session within 7 days of the end of this one.
        repeat_purchase: Probability, after a purchase, of another one within 30 days.
        next_category: The likeliest categories of the next step that has one, likeliest first.
        next_item: The likeliest items of the next step that has one, likeliest first.
    """

    leave: float | None = None
    return_7d: float | None = None
    repeat_purchase: float | None = None
    next_category: tuple[Candidate, ...] = ()
    next_item: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities that a model gives for one path.

    Attributes:
        next_action: Probability of each action to be the next, by action id; entry 0 (padding)
            is 0 and the rest sum to 1.
        purchase: Probability of a purchase in the rest of the session.
        others: What else the model says; None when it was not asked, or has nothing else.
        model: Digest of the model that says so, where several are at work; empty elsewhere.
    """

    next_action: tuple[float, ...]
    purchase: float
    others: OtherScores | None = None
    model: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if len(self.next_action) != ACTION_COUNT:
            raise ValueError(f"{len(self.next_action)} probabilities, expected {ACTION_COUNT}")
        # Written so that NaN fails it too.
        if not 0.0 <= self.purchase <= 1.0:
            raise ValueError(f"purchase probability {self.purchase} is not between 0 and 1")

    def of(self, action: str) -> float:
        """Probability that `action` (a canonical name) is the next."""
        return self.next_action[ACTION_ID[action]]
