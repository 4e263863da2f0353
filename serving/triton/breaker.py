"""A circuit breaker: after some failures in a row nobody is asked for a while.

    closed --failures in a row--> open --pause over, knock answered--> half-open --success--> closed
                                   ^                                      |
                                   `------------------failure-------------'

The states are those of the library `purgatory`. Three things are added. While the breaker is open,
every call is refused at once, so that no batch of a worker waits for a server that is gone. When
the pause is over, a knock in the background finds out whether somebody is there, and until it has
been answered calls are refused still. And of all calls after that, just one goes through until its
outcome is known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context, HalfOpenedState, State

from clickpath.errors import PredictorUnavailable
from serving.call_counts import BreakerState

logger = logging.getLogger(__name__)


class Breaker:
    """Lets calls through, or refuses them.

    Args:
        name: What is called, for messages.
        knock: Finds out whether it would answer; raises nothing, and takes no longer than a
            moment.
        threshold: Failures in a row after which it opens.
        pause_s: How long it is left alone before a knock.
        clock: Seconds that only grow.

    Attributes:
        refused: How many calls were refused so far.
    """

    def __init__(
        self,
        name: str,
        knock: Callable[[], Awaitable[bool]],
        *,
        threshold: int = 3,
        pause_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused = 0
        self._name = name
        self._knock = knock
        self._pause_s = pause_s
        self._clock = clock
        # The library's own pause goes by the wall clock, which may be set back: ours is in front.
        self._context = Context(name, threshold, pause_s)
        self._pause_ends_s = 0.0
        self._knocking: asyncio.Task[None] | None = None
        self._trial_under_way = False

    @property
    def state(self) -> BreakerState:
        """Where it stands."""
        return self._context.state

    def admit(self) -> bool:
        """Lets a call through; one of the three methods below must be told its outcome.

        Returns:
            Whether the call is the trial of a breaker that is half open.

        Raises:
            PredictorUnavailable: It is refused.
        """
        if self.state == OPENED:
            if self._knocking is None and self._clock() >= self._pause_ends_s:
                self._knocking = asyncio.create_task(self._knock_once())
            self._refuse()
        if self.state == HALF_OPENED:
            if self._trial_under_way:
                self._refuse()
            self._trial_under_way = True
            return True
        return False

    def succeeded(self, trial: bool) -> None:
        """The server answered."""
        if self._counts(trial):
            self._context.handle_end_request()
            self._note()

    def failed(self, trial: bool, error: Exception) -> None:
        """The server failed."""
        if self._counts(trial):
            self._context.handle_exception(error)
            self._note()

    def left_open(self, trial: bool) -> None:
        """The call ended without saying anything about the server."""
        self._counts(trial)

    async def close(self) -> None:
        """Ends a knock that is under way."""
        if self._knocking is not None:
            self._knocking.cancel()
            await asyncio.wait([self._knocking])

    def _counts(self, trial: bool) -> bool:
        """Whether an outcome matters: calls from before the breaker opened are old news."""
        if trial:
            self._trial_under_way = False
        return trial or self.state == CLOSED

    def _refuse(self) -> None:
        self.refused += 1
        raise PredictorUnavailable(f"{self._name} has failed and is left alone for a while")

    async def _knock_once(self) -> None:
        try:
            answered = await self._knock()
        finally:
            self._knocking = None
        if answered:
            self._set(HalfOpenedState())
        else:
            self._pause_ends_s = self._clock() + self._pause_s

    def _set(self, state: State) -> None:
        self._context.set_state(state)
        self._note()

    def _note(self) -> None:
        """Reads what the library says of changes; it keeps them until somebody does."""
        messages = self._context.messages[:]
        self._context.messages.clear()
        for message in messages:
            if not isinstance(message, ContextChanged):
                continue
            if message.state == OPENED:
                self._pause_ends_s = self._clock() + self._pause_s
            level = logging.WARNING if message.state == OPENED else logging.INFO
            logger.log(level, "%s: the circuit breaker is %s", self._name, message.state)
