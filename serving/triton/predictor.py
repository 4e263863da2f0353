"""The predictor that asks a Triton server.

The rules

1.  A call has one deadline, for all its batches and retries together. A bounded number of batches
    is in flight at once, which hides the transport; a call is cut into no more of them than that
    where the model takes batches so large, for each costs the same, but not into crumbs.
2.  A batch is sent again only when no server answered the first time, once, and within a budget.
3.  When calls fail in a row a circuit breaker refuses further ones at once, and the fallback
    policy decides until the server has answered a knock and then a trial; see
    `serving.triton.breaker`.
4.  The version is one number from the start to the end, and its fingerprints are compared before
    the first call and after each time that the server was away.
"""

from __future__ import annotations

import asyncio
import logging
import random
from array import array
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Final

from clickpath.encoding import Encoder
from clickpath.errors import (
    ClickpathError,
    PredictorError,
    PredictorTimeout,
    PredictorUnavailable,
)
from clickpath.scores import Scores
from serving.batches import Batch, batches
from serving.call_counts import CallCounts
from serving.outputs import (
    OTHER_BINARY_HEADS,
    Outputs,
    output_names,
    scores_of,
    wrong_shape,
)
from serving.triton.address import Address
from serving.triton.answers import Meaning, error_of, may_repeat, speaks_of_health
from serving.triton.breaker import Breaker
from serving.triton.client import CallFailed, CallHeaders, Slot, VersionClient, loaded_version
from serving.triton.retries import RetryBudget

logger = logging.getLogger(__name__)

_RETRY_PAUSE_S: Final = 0.02

#: A batch of fewer paths costs more on its way than it gains by running beside others.
_LEAST_ROWS: Final = 64

#: The outputs with one number a row.
_NUMBERS: Final = frozenset({"purchase", *OTHER_BINARY_HEADS})


class TritonPredictor:
    """Scores paths on a Triton server; see `serving.predictor.Predictor` for the contract.

    Args:
        address: Of the server.
        encoder: The encoder whose paths it will be given.
        model: Name of the model.
        version: Its number; 0 takes the newest one that is loaded, for good.
        in_flight: Most batches that are with the server at once.
        most_rows: Largest batch, if the model takes as many.
        threshold: Failed calls in a row after which the server is left alone.
        pause_s: How long it is left alone before the next knock.
        wait_s: How long the server may be missing at the start.
        call_headers: Gives the headers of each call, such as the context of a trace; None sends
            none.

    Raises:
        ModelMismatch: The version does not fit the encoder.
        UsageError: There is no server or no such version.
        ConfigError: The server refuses the admin key or the certificates.
    """

    def __init__(
        self,
        address: Address,
        encoder: Encoder,
        *,
        model: str = "clickpath",
        version: int = 0,
        in_flight: int = 4,
        most_rows: int = 256,
        threshold: int = 3,
        pause_s: float = 2.0,
        wait_s: float = 30.0,
        call_headers: CallHeaders | None = None,
    ) -> None:
        self._address = address
        self._call_headers = call_headers
        self._model = model
        self._name = f"model {model} at {address.url}"
        self._loaded = loaded_version(address, model, version, wait_s=wait_s)
        fingerprints = self._loaded.fingerprints
        fingerprints.check(encoder, self._name)
        self._steps = encoder.window.steps
        self._most_rows = min(most_rows, self._loaded.max_batch)
        self._slots: asyncio.Queue[Slot] = asyncio.Queue()
        for _ in range(in_flight):
            self._slots.put_nowait(Slot(output_names(fingerprints.heads)))
        self._in_flight = in_flight
        self._breaker = Breaker(self._name, self._knock, threshold=threshold, pause_s=pause_s)
        self._budget = RetryBudget()
        self._counts = CallCounts()
        self._client: VersionClient | None = None
        self._closed = False

    @property
    def digest(self) -> str:
        """The digest of the version, as its repository names it."""
        return self._loaded.fingerprints.digest

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder that made the model's examples."""
        return self._loaded.fingerprints.encoder

    @property
    def version(self) -> int:
        """The version that it asks."""
        return self._loaded.version

    def call_counts(self) -> CallCounts:
        """What happened so far."""
        self._counts.retries = self._budget.spent
        self._counts.refused = self._breaker.refused
        self._counts.breaker = self._breaker.state
        return self._counts

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        *,
        keys: Sequence[bytes] | None = None,
    ) -> Sequence[Scores]:
        """Scores paths; one result each, in the order of the paths."""
        if self._closed:
            raise PredictorUnavailable(f"the {self._name} is closed")
        if not paths:
            return []
        if deadline_s <= 0:
            raise PredictorTimeout(f"the {self._name} was given {deadline_s} s for its answer")
        trial = self._breaker.admit()
        try:
            scores = await self._scores(paths, deadline_s)
        except CallFailed as failure:
            error = error_of(failure.meaning, str(failure))
            if speaks_of_health(failure.meaning):
                self._breaker.failed(trial, error)
            else:
                self._breaker.left_open(trial)
            raise error from failure
        except PredictorError as error:
            self._breaker.failed(trial, error)
            raise
        except BaseException:
            self._breaker.left_open(trial)
            raise
        self._breaker.succeeded(trial)
        return scores

    async def close(self) -> None:
        """Closes the channel; calls under way end with an error."""
        self._closed = True
        await self._breaker.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _scores(self, paths: Sequence[array[int]], deadline_s: float) -> list[Scores]:
        results: list[Scores | None] = [None] * len(paths)
        ends_s = asyncio.get_running_loop().time() + deadline_s
        share = max(ceil(len(paths) / self._in_flight), _LEAST_ROWS)
        left = batches(paths, self._steps, min(share, self._most_rows))
        askers = [
            asyncio.create_task(self._ask_for_some(left, results, ends_s))
            for _ in range(min(self._in_flight, len(paths)))
        ]
        try:
            async with asyncio.timeout_at(ends_s):
                await asyncio.gather(*askers)
        except TimeoutError as error:
            raise CallFailed(
                Meaning.DEADLINE,
                f"the {self._name} gave no scores for {len(paths)} paths in {deadline_s} s",
            ) from error
        finally:
            for asker in askers:
                asker.cancel()
            await asyncio.wait(askers)
        return [scores for scores in results if scores is not None]

    async def _ask_for_some(
        self, left: Iterator[Batch], results: list[Scores | None], ends_s: float
    ) -> None:
        """Takes batches, one after the other, until none is left."""
        slot = await self._slots.get()
        try:
            for batch in left:
                outputs = await self._outputs(slot, batch, ends_s)
                for row, scores in zip(batch.rows, scores_of(outputs), strict=True):
                    results[row] = scores
        finally:
            self._slots.put_nowait(slot)

    async def _outputs(self, slot: Slot, batch: Batch, ends_s: float) -> Outputs:
        loop = asyncio.get_running_loop()
        again = True
        while True:
            try:
                answer = await self._connected().infer(slot, batch.paths, ends_s - loop.time())
            except CallFailed as failure:
                self._counts.calls[failure.meaning.value] += 1
                late = loop.time() + _RETRY_PAUSE_S > ends_s
                if not (again and may_repeat(failure.meaning)) or late or not self._budget.spend():
                    raise
                again = False
                await asyncio.sleep(_RETRY_PAUSE_S * random.uniform(0.5, 1.0))
            except asyncio.CancelledError:
                self._counts.calls[Meaning.CANCELLED.value] += 1
                raise
            else:
                self._counts.calls["ok"] += 1
                self._budget.earn()
                return self._usable(answer, len(batch.paths))

    def _usable(self, answer: Outputs, rows: int) -> Outputs:
        outputs = {
            name: of[:, 0] if name in _NUMBERS and of.ndim == 2 else of
            for name, of in answer.items()
        }
        wrong = wrong_shape(outputs, rows)
        if wrong is not None:
            raise PredictorUnavailable(f"the {self._name} {wrong}")
        return outputs

    def _connected(self) -> VersionClient:
        if self._closed:
            raise PredictorUnavailable(f"the {self._name} was closed")
        if self._client is None:
            # Not before a loop runs.
            self._client = VersionClient(
                self._address, self._model, self._loaded, self._call_headers
            )
        return self._client

    async def _knock(self) -> bool:
        try:
            same = await self._connected().is_the_same()
        except (CallFailed, ClickpathError) as error:
            logger.info("the %s does not answer a knock: %s", self._name, error)
            return False
        if not same:
            logger.warning("the %s is not ready, or is another model by now", self._name)
        return same
