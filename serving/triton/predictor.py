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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

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
from serving.triton.channel import CallHeaders, Channel
from serving.triton.client import CallFailed, Loaded, Slot, VersionClient, loaded_version
from serving.triton.retries import RetryBudget

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

logger = logging.getLogger(__name__)

_RETRY_PAUSE_S: Final = 0.02

#: A batch of fewer paths costs more on its way than it gains by running beside others.
_LEAST_ROWS: Final = 64

#: The outputs with one number a row.
_NUMBERS: Final = frozenset({"purchase", *OTHER_BINARY_HEADS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How hard a server is asked, and how soon it is left alone.

    Attributes:
        in_flight: Most batches that are with the server at once.
        most_rows: Largest batch, if the model takes as many.
        threshold: Failed calls in a row after which the server is left alone.
        pause_s: How long it is left alone before the next knock.
    """

    in_flight: int = 4
    most_rows: int = 256
    threshold: int = 3
    pause_s: float = 2.0


class TritonPredictor:
    """Scores paths on a Triton server; see `serving.predictor.Predictor` for the contract.

    Args:
        channel: Over which it asks.
        encoder: The encoder whose paths it will be given.
        loaded: The version, as the server has told of it; `serving.triton.client.loaded_version`.
        model: Name of the model.
        tuning: How it asks.
        missing: Is told when the server answers that it does not have the version.

    Raises:
        ModelMismatch: The version does not fit the encoder.
    """

    def __init__(
        self,
        channel: Channel,
        encoder: Encoder,
        loaded: Loaded,
        *,
        model: str = "clickpath",
        tuning: Tuning | None = None,
        missing: Callable[[], None] = lambda: None,
    ) -> None:
        tuning = tuning or Tuning()
        self._name = f"model {model} at {channel.address.url}"
        self._loaded = loaded
        self._missing = missing
        fingerprints = loaded.fingerprints
        fingerprints.check(encoder, self._name)
        self._steps = encoder.window.steps
        self._most_rows = min(tuning.most_rows, loaded.max_batch)
        self._slots: asyncio.Queue[Slot] = asyncio.Queue()
        for _ in range(tuning.in_flight):
            self._slots.put_nowait(Slot(output_names(fingerprints.heads)))
        self._in_flight = tuning.in_flight
        self._breaker = Breaker(
            self._name, self._knock, threshold=tuning.threshold, pause_s=tuning.pause_s
        )
        self._budget = RetryBudget()
        self._counts = CallCounts()
        self._client = VersionClient(channel, model, loaded)
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
            if failure.meaning is Meaning.NOT_READY:
                self._missing()
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
        """Lets go of the channel; if nobody else holds it, calls under way end with an error."""
        if not self._closed:
            self._closed = True
            await self._breaker.close()
            await self._client.close()

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
                answer = await self._open().infer(slot, batch.paths, ends_s - loop.time())
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

    def _open(self) -> VersionClient:
        if self._closed:
            raise PredictorUnavailable(f"the {self._name} was closed")
        return self._client

    async def _knock(self) -> bool:
        try:
            same = await self._open().is_the_same()
        except CallFailed as failure:
            logger.info("the %s does not answer a knock: %s", self._name, failure)
            if failure.meaning is Meaning.NOT_READY:
                self._missing()
            return False
        except ClickpathError as error:
            logger.info("the %s does not answer a knock: %s", self._name, error)
            return False
        if not same:
            logger.warning("the %s is not ready, or is another model by now", self._name)
            self._missing()
        return same


def connect(
    address: Address,
    encoder: Encoder,
    *,
    model: str = "clickpath",
    version: int = 0,
    wait_s: float = 30.0,
    public_key: Ed25519PublicKey | None = None,
    call_headers: CallHeaders | None = None,
    tuning: Tuning | None = None,
) -> TritonPredictor:
    """The predictor that asks one version for good, over a channel of its own.

    Args:
        address: Of the server.
        encoder: The encoder whose paths it will be given.
        model: Name of the model.
        version: Its number; 0 takes the newest one that is loaded.
        wait_s: How long the server, or the version, may be missing.
        public_key: Must have signed the version's fingerprints; None asks for no signature.
        call_headers: Gives the headers of each call, such as the context of a trace; None sends
            none.
        tuning: How it asks.

    Raises:
        ModelMismatch: The version does not fit the encoder, or is not signed.
        PredictorUnavailable: There is no server or no such version.
        ConfigError: The server refuses the admin key.
    """
    loaded = loaded_version(address, model, version, wait_s=wait_s)
    if public_key is not None:
        where = f"model {model} at {address.url}, version {loaded.version},"
        loaded.vouched.check_signature(public_key, where)
    channel = Channel(address, call_headers)
    return TritonPredictor(channel, encoder, loaded, model=model, tuning=tuning)
