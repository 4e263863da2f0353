"""A predictor that may not be there yet: a server that is away when a worker starts.

Until it is there each call is refused, so that the fallback policy decides. What it is, and whether
it fits, is found out before the first score: a model that does not fit ends the waiting with an
error, and is never asked.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from clickpath.errors import PredictorError, PredictorUnavailable
from clickpath.scores import Scores
from serving.call_counts import CallCounts, CountsCalls
from serving.predictor import Predictor
from serving.versions import ModelSource

logger = logging.getLogger(__name__)

#: What stands for a model in decisions before anybody knows which it is.
UNKNOWN: Final = "none"


class LatePredictor:
    """Stands for a predictor until it is there, and passes calls on from then on.

    Args:
        reach: Makes the predictor.
        encoder_fingerprint: Of the encoder that it will be given.
        digest: Of the model, where that is known beforehand.
        source: Where other versions come from; None where the model stays the same.
        pause_s: Between two tries.

    Attributes:
        why: Why it is not there, in a sentence; None once it is.
        source: See above.
    """

    def __init__(
        self,
        reach: Callable[[], Awaitable[Predictor]],
        encoder_fingerprint: str,
        *,
        digest: str = UNKNOWN,
        source: ModelSource | None = None,
        pause_s: float = 2.0,
    ) -> None:
        self.why: str | None = "the model has not been asked yet"
        self.source = source
        self._reach = reach
        self._encoder_fingerprint = encoder_fingerprint
        self._digest = digest
        self._pause_s = pause_s
        self._there: Predictor | None = None
        self._closed = False

    @property
    def digest(self) -> str:
        """Of the model, as far as it is known."""
        return self._digest if self._there is None else self._there.digest

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder whose paths it understands."""
        return self._encoder_fingerprint

    async def arrive(self) -> None:
        """Tries until the predictor is there, or this one is closed.

        Raises:
            FatalError: It is there, and may not be used.
        """
        while not self._closed and self._there is None:
            try:
                there = await self._reach()
            except PredictorError as error:
                self.tell(str(error))
                await asyncio.sleep(self._pause_s)
                continue
            if self._closed:
                await there.close()
                return
            self._there, self.why = there, None
            logger.info("the model is %s", there.digest)

    def tell(self, why: str) -> None:
        """Notes why it is not there."""
        if why != self.why:
            logger.warning("the fallback policy decides: %s", why)
            self.why = why

    def call_counts(self) -> CallCounts:
        """What happened so far; nobody is asked before it is there."""
        if self._there is None:
            return CallCounts(breaker="opened")
        return self._there.call_counts() if isinstance(self._there, CountsCalls) else CallCounts()

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        *,
        keys: Sequence[bytes] | None = None,
    ) -> Sequence[Scores]:
        """Scores paths; see `serving.predictor.Predictor`."""
        if self._there is None:
            raise PredictorUnavailable(str(self.why))
        return await self._there.predict(paths, deadline_s, keys=keys)

    async def close(self) -> None:
        """Closes the predictor if it is there, and ends the tries if it is not."""
        self._closed = True
        if self._there is not None:
            await self._there.close()
