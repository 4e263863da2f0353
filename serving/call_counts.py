"""What a predictor behind a network counts, for the worker's metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from serving.predictor import Predictor

#: Where a circuit breaker stands: calls go through, one at a time as a trial, or not at all.
BreakerState = Literal["closed", "half-opened", "opened"]
BREAKER_STATES: Final[tuple[BreakerState, ...]] = ("closed", "half-opened", "opened")


@dataclass(slots=True)
class CallCounts:
    """Counts since the start.

    Attributes:
        calls: Calls that were sent, by outcome: `ok`, or a meaning of `serving.triton.answers`.
            Retries are calls as well.
        retries: Calls that were sent once more.
        refused: Questions that the circuit breaker refused, without a call.
        breaker: Where the circuit breaker stands.
    """

    calls: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    refused: int = 0
    breaker: BreakerState = "closed"


@runtime_checkable
class CountsCalls(Predictor, Protocol):
    """A predictor behind a network."""

    def call_counts(self) -> CallCounts:
        """What happened so far."""
        ...
