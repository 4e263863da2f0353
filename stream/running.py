"""Runs a worker in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from clickpath.errors import UsageError
from serving.late import LatePredictor
from serving.predictor import Predictor
from stream.app import Worker
from stream.batch.preflight import check_broker
from stream.batch.worker import quiet_loggers, run, run_app
from stream.collector import calm_collector

logger = logging.getLogger(__name__)

#: How long a worker waits for a model that is not there; then the fallback policy decides.
_MODEL_S: Final = 10.0


def run_worker(worker: Worker, predictor: Predictor | None) -> int:
    """Serves the pages and runs the application; returns the process's exit code.

    A first SIGTERM or SIGINT finishes the chunk in hand, commits and leaves the group.

    Raises:
        UsageError: The address of the pages is taken.
        ConfigError: The changelog or the broker does not fit what is wanted, or Triton refuses
            the admin key.
        ModelMismatch: The model on Triton may not be used.
    """
    calm_collector()
    return run(_run(worker, predictor), tls=worker.app.connection.encrypted)


async def _run(worker: Worker, predictor: Predictor | None) -> int:
    quiet_loggers()
    await check_broker(worker.app, worker.topics)
    try:
        await worker.pages.start()
    except OSError as error:
        raise UsageError(f"the pages cannot listen on {worker.pages.address}: {error}") from error
    digests = worker.handler.digests
    logger.info(
        "pages on port %d; model %s, policy %s, encoder %s",
        *(worker.pages.port, digests.model, digests.policy, digests.encoder),
    )
    arriving: asyncio.Task[None] | None = None
    try:
        if worker.rollout is not None:
            await worker.rollout.start()
        if isinstance(predictor, LatePredictor) and _is_wanted(worker, predictor):
            arriving = asyncio.create_task(predictor.arrive())
            await asyncio.wait([arriving], timeout=_MODEL_S)
        if worker.archive is not None:
            await worker.archive.start()
        return await _run_app(worker, arriving)
    finally:
        if arriving is not None:
            arriving.cancel()
            await asyncio.wait([arriving])
        if worker.archive is not None:
            await worker.archive.stop()
        if worker.rollout is not None:
            await worker.rollout.stop()
            await worker.rollout.close()
        await worker.pages.stop()
        if predictor is not None:
            await predictor.close()
        if worker.tracer is not None:
            await asyncio.to_thread(worker.tracer.close)


def _is_wanted(worker: Worker, late: LatePredictor) -> bool:
    """Whether it decides; not if the models topic names another one."""
    standing = None if worker.rollout is None else worker.rollout.known.standing
    return standing is None or standing.champion == late.digest


async def _run_app(worker: Worker, arriving: asyncio.Task[None] | None) -> int:
    """Runs the application, and ends it when the model comes and may not be used."""
    stop = asyncio.Event()

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            stop.set()

    if arriving is None:
        return await run_app(worker.app)
    if arriving.done():
        arriving.result()
    arriving.add_done_callback(ended)
    code = await run_app(worker.app, stop=stop)
    if stop.is_set() and arriving.done():
        arriving.result()
    return code
