"""Runs a worker in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging

from clickpath.errors import UsageError
from serving.predictor import Predictor
from stream.app import Worker
from stream.batch.preflight import check_broker
from stream.batch.worker import quiet_loggers, run, run_app
from stream.collector import calm_collector

logger = logging.getLogger(__name__)


def run_worker(worker: Worker, predictor: Predictor | None) -> int:
    """Serves the pages and runs the application; returns the process's exit code.

    A first SIGTERM or SIGINT finishes the chunk in hand, commits and leaves the group.

    Raises:
        UsageError: The address of the pages is taken.
        ConfigError: The changelog or the broker does not fit what is wanted.
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
    try:
        if worker.rollout is not None:
            await worker.rollout.start()
        if worker.archive is not None:
            await worker.archive.start()
        return await run_app(worker.app)
    finally:
        if worker.archive is not None:
            await worker.archive.stop()
        if worker.rollout is not None:
            await worker.rollout.stop()
            await worker.rollout.predictor.close()
        await worker.pages.stop()
        if predictor is not None:
            await predictor.close()
        if worker.tracer is not None:
            await asyncio.to_thread(worker.tracer.close)
