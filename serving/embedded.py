"""The embedded predictor: onnxruntime in this process, in a thread of its own.

Rules

1.  One thread runs the model, one call at a time; the event loop only waits.
2.  A call that is past its deadline raises at once. Its run is told to stop; until it has, later
    calls wait for the thread no longer than their own deadlines allow, and no more than
    `waiting_limit` are in hand at once. So nothing piles up behind a run that is stuck.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import onnxruntime

from clickpath.encoding import Encoder
from clickpath.errors import PredictorTimeout, PredictorUnavailable
from clickpath.scores import Scores
from serving.batches import batches
from serving.cache_counts import CacheCounts
from serving.card import Card
from serving.graph import Graph
from serving.incremental import StepByStep
from serving.outputs import scores_of


def shipped_model() -> Path:
    """The directory of the model that ships with Clickpath."""
    return Path(__file__).resolve().parent / "shipped"


class _Engine(Protocol):
    """What runs in the thread: encoded paths, and whose they are, to scores."""

    @property
    def card(self) -> Card: ...

    def score(
        self,
        paths: Sequence[array[int]],
        keys: Sequence[bytes] | None,
        options: onnxruntime.RunOptions,
    ) -> list[Scores]: ...


class EmbeddedPredictor:
    """Scores paths with an ONNX model; see `serving.predictor.Predictor` for the contract.

    The model takes `paths`, int64 of shape (batch, FEATURES, time), and gives what
    `serving.outputs` names. With a cache its step graphs are asked (`serving.incremental`).

    Args:
        directory: Holds the model and its card.
        encoder: The encoder whose paths it will be given.
        threads: Threads within one run. More than one may change the last bits of a score.
        every_head: Whether to ask all heads, candidates for the next item among them; by default
            only those that cost next to nothing beside the two that decisions need.
        most_rows: Most whole paths that are read at once.
        waiting_limit: Most calls in hand, the running one included.
        cache_bytes: Follow paths step by step, and keep so much of what is made of them; None
            reads each path as a whole. Only the heads that decisions need are asked.

    Raises:
        ModelMismatch: The model fits neither its card, the encoder nor the contract above; or it
            has no step graphs and there is to be a cache.
        ConfigError: The cache holds no user.
    """

    def __init__(
        self,
        directory: Path,
        encoder: Encoder,
        *,
        threads: int = 1,
        every_head: bool = False,
        most_rows: int = 64,
        waiting_limit: int = 64,
        cache_bytes: int | None = None,
    ) -> None:
        assert cache_bytes is None or not every_head
        self._step_by_step = (
            StepByStep(directory, encoder, cache_bytes=cache_bytes, threads=threads)
            if cache_bytes is not None
            else None
        )
        self._engine: _Engine = self._step_by_step or _Whole(
            Graph(directory, encoder, threads=threads, every_head=every_head),
            encoder.window.steps,
            most_rows,
        )
        self.card: Card = self._engine.card
        self._waiting_limit = waiting_limit
        self._waiting = 0
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clickpath-model")
        self._free = asyncio.Lock()

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the model file's SHA-256."""
        return self.card.digest

    @property
    def encoder_fingerprint(self) -> str:
        """Fingerprint of the encoder that made the model's examples."""
        return self.card.encoder

    def cache_counts(self) -> CacheCounts | None:
        """What the cache has done so far; None where there is none."""
        return None if self._step_by_step is None else self._step_by_step.counts()

    async def predict(
        self,
        paths: Sequence[array[int]],
        deadline_s: float,
        *,
        keys: Sequence[bytes] | None = None,
    ) -> Sequence[Scores]:
        """Scores paths; one result each, in the order of the paths."""
        if self._closed:
            raise PredictorUnavailable("the embedded model is closed")
        if not paths:
            return []
        if self._waiting >= self._waiting_limit:
            raise PredictorUnavailable(
                f"the embedded model has {self._waiting} calls in hand already"
            )
        loop = asyncio.get_running_loop()
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline_s):
                await self._free.acquire()
                if self._closed:
                    self._free.release()
                    raise PredictorUnavailable("the embedded model was closed")
                job = self._thread.submit(self._engine.score, paths, keys, options)
                job.add_done_callback(lambda _: _release(loop, self._free))
                return await asyncio.wrap_future(job)
        except TimeoutError as error:
            raise PredictorTimeout(
                f"the embedded model gave no scores for {len(paths)} paths in {deadline_s} s"
            ) from error
        finally:
            self._waiting -= 1
            options.terminate = True

    async def close(self) -> None:
        """Frees the thread; a run in hand is waited for."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)


class _Whole:
    """Reads each path as a whole; nothing is kept from call to call."""

    def __init__(self, graph: Graph, steps: int, most_rows: int) -> None:
        self.card = graph.card
        self._graph = graph
        self._steps = steps
        self._most_rows = most_rows

    def score(
        self,
        paths: Sequence[array[int]],
        keys: Sequence[bytes] | None,
        options: onnxruntime.RunOptions,
    ) -> list[Scores]:
        results: list[Scores | None] = [None] * len(paths)
        for batch in batches(paths, self._steps, self._most_rows):
            if options.terminate:
                raise PredictorTimeout("nobody waits for these scores any more")
            outputs = self._graph.run(batch.paths, options)
            for row, scores in zip(batch.rows, scores_of(outputs), strict=True):
                results[row] = scores
        return [scores for scores in results if scores is not None]


def _release(loop: asyncio.AbstractEventLoop, free: asyncio.Lock) -> None:
    """Runs in the model's thread, or in the loop's when the job was cancelled in time."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(free.release)
