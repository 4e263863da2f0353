"""The embedded predictor: onnxruntime in this process, in a thread of its own.

Rules

1.  One thread runs the model, one call at a time; the event loop only waits.
2.  A call that is past its deadline raises at once. Its run is told to stop; until it has, later
    calls wait for the thread no longer than their own deadlines allow, and no more than
    `waiting_limit` are in hand at once. So nothing piles up behind a run that is stuck.
3.  Errors of onnxruntime become ours here, by `_RUNTIME_ERRORS`, and nowhere else.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import ModelMismatch, PredictorTimeout, PredictorUnavailable
from clickpath.scores import Scores
from clickpath.vocabulary import ACTION_COUNT
from serving.batches import batches, scores_of, time_buckets
from serving.card import Card, check_card, read_card, read_model

INPUT_NAME: Final = "paths"
OUTPUT_NAMES: Final = ("next_action", "purchase")

#: Everything that onnxruntime raises: none of them has a base class in common but `Exception`.
_RUNTIME_ERRORS: Final = (
    runtime_state.DeviceReset,
    runtime_state.EngineError,
    runtime_state.EPFail,
    runtime_state.Fail,
    runtime_state.InvalidArgument,
    runtime_state.InvalidGraph,
    runtime_state.InvalidProtobuf,
    runtime_state.ModelLoadCanceled,
    runtime_state.ModelLoaded,
    runtime_state.ModelRequiresCompilation,
    runtime_state.NoModel,
    runtime_state.NoSuchFile,
    runtime_state.NotFound,
    runtime_state.NotImplemented,
    runtime_state.RuntimeException,
)


def shipped_model() -> Path:
    """The directory of the model that ships with Clickpath."""
    return Path(__file__).resolve().parent / "shipped"


class EmbeddedPredictor:
    """Scores paths with an ONNX model; see `serving.predictor.Predictor` for the contract.

    The model takes `paths`, int64 of shape (batch, FEATURES, time), and gives `next_action`,
    float32 of shape (batch, ACTION_COUNT), and `purchase`, float32 of shape (batch,): both are
    probabilities.

    Args:
        directory: Holds `model.onnx` and `card.json`.
        encoder: The encoder whose paths it will be given.
        threads: Threads within one run. More than one may change the last bits of a score.
        most_rows: Largest batch that is run at once.
        waiting_limit: Most calls in hand, the running one included.

    Raises:
        ModelMismatch: The model fits neither its card, the encoder nor the contract above.
    """

    def __init__(
        self,
        directory: Path,
        encoder: Encoder,
        *,
        threads: int = 1,
        most_rows: int = 64,
        waiting_limit: int = 64,
    ) -> None:
        self.card: Card = read_card(directory)
        model = read_model(directory)
        check_card(self.card, model, encoder, directory)
        self._steps = encoder.window.steps
        self._most_rows = most_rows
        self._waiting_limit = waiting_limit
        self._waiting = 0
        self._closed = False
        self._session = _session(model, threads, directory)
        self._check_model(directory)
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

    async def predict(self, paths: Sequence[array[int]], deadline_s: float) -> Sequence[Scores]:
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
                job = self._thread.submit(self._run, paths, options)
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

    def _run(self, paths: Sequence[array[int]], options: onnxruntime.RunOptions) -> list[Scores]:
        results: list[Scores | None] = [None] * len(paths)
        for batch in batches(paths, self._steps, self._most_rows):
            if options.terminate:
                raise PredictorTimeout("nobody waits for these scores any more")
            try:
                outputs = self._session.run(OUTPUT_NAMES, {INPUT_NAME: batch.paths}, options)
            except _RUNTIME_ERRORS as error:
                raise PredictorUnavailable(f"the embedded model failed: {error}") from error
            for row, scores in zip(batch.rows, scores_of(*outputs), strict=True):
                results[row] = scores
        return [scores for scores in results if scores is not None]

    def _check_model(self, directory: Path) -> None:
        """Runs one path of each length through the model, which warms it as well."""
        for length in time_buckets(self._steps):
            paths = np.ones((2, FEATURES, length), dtype=np.int64)
            try:
                next_action, purchase = self._session.run(OUTPUT_NAMES, {INPUT_NAME: paths})
            except (*_RUNTIME_ERRORS, ValueError) as error:
                raise ModelMismatch(f"the model in {directory} cannot be run: {error}") from error
            if next_action.shape != (2, ACTION_COUNT) or purchase.shape != (2,):
                raise ModelMismatch(
                    f"the model in {directory} gives shapes {next_action.shape} and "
                    f"{purchase.shape} for 2 paths, expected (2, {ACTION_COUNT}) and (2,)"
                )
            try:
                scores_of(next_action, purchase)
            except PredictorUnavailable as error:
                raise ModelMismatch(f"the model in {directory}: {error}") from error


def _session(model: bytes, threads: int, directory: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: whatever fails is raised
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _RUNTIME_ERRORS as error:
        raise ModelMismatch(f"onnxruntime cannot load the model in {directory}: {error}") from error


def _release(loop: asyncio.AbstractEventLoop, free: asyncio.Lock) -> None:
    """Runs in the model's thread, or in the loop's when the job was cancelled in time."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(free.release)
