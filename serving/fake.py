"""A predictor without a model: scores that are drawn from the path, with faults on request."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b

from clickpath.encoding import Encoder
from clickpath.errors import PredictorTimeout, PredictorUnavailable
from clickpath.scores import OtherScores, Scores
from clickpath.vocabulary import ACTION_COUNT


class FakePredictor:
    """Scores that depend on the path alone; see `serving.predictor.Predictor` for the contract.

    Args:
        encoder: The encoder whose paths it will be given.
        delay_s: How long each call takes.
        failing: Whether a call fails, by its number from 0.
        digest: What it passes for in records.

    Attributes:
        batch_sizes: How many paths each call so far had.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        delay_s: float = 0.0,
        failing: Callable[[int], bool] | None = None,
        digest: str = "fa4e000000000000",
    ) -> None:
        self.digest = digest
        self.encoder_fingerprint = encoder.fingerprint
        self.batch_sizes: list[int] = []
        self._delay_s = delay_s
        self._failing = failing
        self._closed = False

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        *,
        keys: Sequence[bytes] | None = None,
    ) -> Sequence[Scores]:
        """Scores paths; one result each, in the order of the paths."""
        if self._closed:
            raise PredictorUnavailable("the fake model is closed")
        if not paths:
            return []
        call = len(self.batch_sizes)
        self.batch_sizes.append(len(paths))
        if self._failing is not None and self._failing(call):
            raise PredictorUnavailable(f"the fake model fails call {call}, as it was told to")
        if deadline_s <= 0 or self._delay_s > deadline_s:
            await asyncio.sleep(max(deadline_s, 0))
            raise PredictorTimeout(
                f"the fake model takes {self._delay_s} s, the deadline is {deadline_s} s"
            )
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        return [fake_scores(path) for path in paths]

    async def close(self) -> None:
        """Lets every further call fail."""
        self._closed = True


def fake_scores(path: array[int]) -> Scores:
    """Scores that look like a model's, drawn from the bytes of an encoded path."""
    raw = blake2b(path.tobytes(), digest_size=ACTION_COUNT, person=b"fake").digest()
    weights = [1 + byte * byte for byte in raw[1:]]
    total = sum(weights)
    actions = (0.0, *(round(weight / total, 6) for weight in weights))
    return Scores(actions, round(raw[0] / 255, 6), OtherScores(leave=round(raw[-1] / 255, 6)))
