"""Drift: how far live inputs and scores are from what the model's card says they were like.

    psi_action, psi_price, psi_gap   population stability index of single events
    psi_purchase                     of the purchase scores, given the action that each came after
    unknown_items                    share of the events with an item whose item the model lacks
    calibration                      mean probability of the likeliest next action, less the rate
                                     at which it came

PSI: below 0.1 little has changed, above 0.25 much has. A figure is known from `LEAST` observations
on. The counts are halved whenever there are `MOST`, so that they speak of the recent past.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from random import Random
from typing import Final

from clickpath.decision import Decision
from clickpath.encoding import FEATURE_NAMES, Encoder
from clickpath.errors import FatalError
from clickpath.steps import Step
from clickpath.vocabulary import ACTION_COUNT
from clickpath.window import Window
from clickpath.wire.records import decision_from_json
from clickpath.wire.state import UserState
from serving.reference import BINS, Reference, psi, purchase_bin
from stream.batch.records import OutputRecord

logger = logging.getLogger(__name__)

LEAST: Final = 200
MOST: Final = 20_000

#: What a worker looks at of a chunk at most, and the least time between two looks.
USERS_OF_CHUNK: Final = 16
DECISIONS_OF_CHUNK: Final = 4

#: Most users whose next event is waited for.
_WAITING: Final = 1_000

_PAUSE_S: Final = 0.1

#: From how many of a user's newest events one is taken.
_BACK: Final = 16

_UNSCORED: Final = b'"scores":null'
_ACTION, _ITEM, _PRICE, _GAP = (
    FEATURE_NAMES.index(name) for name in ("action", "item", "price_bucket", "gap_bucket")
)


class Drift:
    """Counts of what is seen, beside a reference.

    Args:
        reference: What it was like.
        known_items: Hashes of the items that the model knows.
        encoder: Of the events.
        most: Observations of a kind at which its counts are halved.
    """

    def __init__(
        self,
        reference: Reference,
        known_items: frozenset[int],
        encoder: Encoder,
        most: float = MOST,
    ) -> None:
        self._reference = reference
        self._known = known_items
        self._encoder = encoder
        self._most = most
        self._action = [0.0] * len(reference.action)
        self._price = [0.0] * len(reference.price)
        self._gap = [0.0] * len(reference.gap)
        self._events = self._items = self._unknown = 0.0
        self._purchase = [[0.0] * BINS for _ in range(ACTION_COUNT)]
        self._scores = 0.0
        self._sure = self._right = self._outcomes = 0.0

    def add_event(self, before: Step | None, step: Step) -> None:
        """Counts an event, with the one of the same user before it."""
        steps = (step,) if before is None else (before, step)
        encoded = self._encoder.encode_steps(steps)
        width, at = self._encoder.window.steps, len(steps) - 1
        self._action[encoded[_ACTION * width + at]] += 1
        self._price[encoded[_PRICE * width + at]] += 1
        if gap := encoded[_GAP * width + at]:
            self._gap[gap] += 1
        if item := encoded[_ITEM * width + at]:
            self._items += 1
            self._unknown += item not in self._known
        self._events += 1
        if self._events >= self._most:
            self._halve_events()

    def add_score(self, action: int, purchase: float) -> None:
        """Counts a purchase score, with the action of the last step of its path."""
        self._purchase[action][purchase_bin(purchase)] += 1
        self._scores += 1
        if self._scores >= self._most:
            self._purchase = [[n / 2 for n in row] for row in self._purchase]
            self._scores /= 2

    def add_outcome(self, next_action: Sequence[float], action: int) -> None:
        """Counts which action came, beside the probabilities that were given."""
        self._sure += max(next_action)
        self._right += next_action[action] == max(next_action)
        self._outcomes += 1
        if self._outcomes >= self._most:
            self._sure, self._right, self._outcomes = (
                each / 2 for each in (self._sure, self._right, self._outcomes)
            )

    def figures(self) -> dict[str, float]:
        """The figures that are known by now."""
        reference, figures = self._reference, dict[str, float]()
        if self._events >= LEAST:
            figures["psi_action"] = psi(reference.action, self._action)
            figures["psi_price"] = psi(reference.price, self._price)
            if sum(self._gap) >= LEAST:
                figures["psi_gap"] = psi(reference.gap, self._gap)
            if self._known and self._items >= LEAST:
                figures["unknown_items"] = self._unknown / self._items
        if self._scores >= LEAST:
            expected, found = self._expected_scores()
            figures["psi_purchase"] = psi(expected, found)
        if self._outcomes >= LEAST:
            figures["calibration"] = (self._sure - self._right) / self._outcomes
        return {name: round(value, 4) for name, value in figures.items()}

    def _expected_scores(self) -> tuple[list[float], list[float]]:
        """Scores as they would be after the actions that were seen, and as they are."""
        expected, found = [0.0] * BINS, [0.0] * BINS
        for counts, seen in zip(self._reference.purchase, self._purchase, strict=True):
            total = sum(counts)
            if not total:  # nothing is known of scores after this action
                continue
            for n in range(BINS):
                expected[n] += sum(seen) * counts[n] / total
                found[n] += seen[n]
        return expected, found

    def _halve_events(self) -> None:
        self._action, self._price, self._gap = (
            [n / 2 for n in counts] for counts in (self._action, self._price, self._gap)
        )
        self._events, self._items, self._unknown = (
            each / 2 for each in (self._events, self._items, self._unknown)
        )


class DriftOfWorker:
    """Takes a small sample of a chunk, a few times a second at most.

    Args:
        find: The empty counts beside the reference of a model, by its digest; None where its card
            has none.
        window: That kept the paths.
        decisions: Name of the topic of decisions.
    """

    def __init__(self, find: Callable[[str], Drift | None], window: Window, decisions: str) -> None:
        self.drift: Drift | None = None
        self._find = find
        self._window = window
        self._decisions = decisions
        self._model = ""
        self._waiting: dict[bytes, Decision] = {}
        self._next_s = 0.0
        self._luck = Random(1)

    def after_chunk(
        self,
        model: str,
        outputs: Sequence[OutputRecord],
        users: Mapping[bytes, UserState],
        now_s: float,
    ) -> None:
        """Looks at what a chunk came to.

        Args:
            model: Digest of the champion; the counts begin anew with another one.
            outputs: Of the chunk.
            users: The states after it.
            now_s: Seconds of a clock that only goes forward.
        """
        if model != self._model:
            self._model, self.drift = model, self._found(model)
            self._waiting.clear()
        drift = self.drift
        if drift is None:
            return
        for key in self._waiting.keys() & users.keys():
            self._resolve(drift, key, users[key])
        if now_s < self._next_s:
            return
        self._next_s = now_s + _PAUSE_S
        for state in islice(users.values(), 0, None, -(-len(users) // USERS_OF_CHUNK) or 1):
            # Not always the newest one: of a burst within a chunk that is never the first.
            steps = state.path.steps
            if not steps:
                # Of an erased user nothing is left but the stamp.
                continue
            at = len(steps) - 1 - self._luck.randrange(min(len(steps), _BACK))
            drift.add_event(steps[at - 1] if at else None, steps[at])
        scored = (
            each.value
            for each in reversed(outputs)
            if each.topic == self._decisions and each.value and _UNSCORED not in each.value
        )
        for raw in islice(scored, DECISIONS_OF_CHUNK):
            self._take(drift, decision_from_json(raw, self._window), users)

    def _found(self, model: str) -> Drift | None:
        try:
            return self._find(model)
        except FatalError as error:
            # What only looks on must not stop the worker: its model is in memory and decides.
            logger.error("drift is not watched for the model %s: %s", model, error)
            return None

    def _take(self, drift: Drift, decision: Decision, users: Mapping[bytes, UserState]) -> None:
        if decision.digests.model != self._model:
            return
        assert decision.scores is not None
        drift.add_score(decision.path.steps[-1].action, decision.scores.purchase)
        key = decision.user_id.encode()
        if len(self._waiting) >= _WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting[key] = decision
        if key in users:
            self._resolve(drift, key, users[key])

    def _resolve(self, drift: Drift, key: bytes, state: UserState) -> None:
        decision = self._waiting[key]
        event, steps = decision.path.steps[-1].event, state.path.steps
        at = next((n for n, step in enumerate(steps) if step.event == event), None)
        if at is not None and at + 1 == len(steps):
            return
        del self._waiting[key]
        if at is not None and decision.scores is not None:
            drift.add_outcome(decision.scores.next_action, steps[at + 1].action)
