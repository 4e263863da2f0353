"""This worker with its real handler on the events of the small job; started by `benchmarks.run`.

Everything that the product does is done: reading and checking, the event-time window, decisions
with their log, interventions, states in the changelog, metrics. With `none` for a model the
fallback policy decides.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

from benchmarks.small_job import PARTITIONS, report, run_engine
from clickpath.encoding import Encoder
from clickpath.policy import KINDS
from stream.app import Worker, create_app
from stream.batch.worker import run, run_app
from stream.broker import TopicSpec, create_topics
from stream.collector import calm_collector
from stream.connection import Connection
from stream.settings import Settings
from stream.wiring import make_predictor

_POLL_S = 0.005


def run_worker_job(bootstrap_servers: str, count: int, name: str, *, model: str) -> float:
    """Events a second of the worker, until the last state and offset are committed.

    Args:
        bootstrap_servers: The broker, filled by `small_job.fill`.
        count: Events to process.
        name: A name that no other run on this broker has.
        model: A model directory, `shipped` or `none`.
    """
    topics = settings_of(bootstrap_servers, name, model).topics
    specs = {
        topic: TopicSpec(partitions=PARTITIONS, config=config)
        for topic, config in topics.configs(KINDS).items()
        if topic not in (topics.clicks, topics.changelog)
    }
    asyncio.run(create_topics(Connection(bootstrap_servers), specs))
    return run_engine("benchmarks.worker_job", bootstrap_servers, count, name, model).eps


def settings_of(bootstrap_servers: str, name: str, model: str) -> Settings:
    """Settings of a worker with topics of its own besides the clicks."""
    return Settings(
        bootstrap_servers=bootstrap_servers,
        app_id=name,
        decisions_topic=f"{name}-decisions",
        interventions_topic=f"{name}-interventions",
        dead_letter_topic=f"{name}-dead-letter",
        late_topic=f"{name}-late",
        model=model,
        session_timeout_s=6,
        # A benchmark must not become fast by giving up on the model.
        predict_deadline_s=60,
    )


async def work(settings: Settings, count: int) -> None:
    """Runs a worker until it has committed so many events."""
    predictor = make_predictor(settings, Encoder(settings.window))
    worker = create_app(settings, predictor, lambda: time.time_ns() // 1_000_000)
    stop = asyncio.Event()
    watching = asyncio.create_task(_watch(worker, count, stop))
    await run_app(worker.app, stop=stop)
    await watching
    if predictor is not None:
        await predictor.close()


async def _watch(worker: Worker, count: int, stop: asyncio.Event) -> None:
    progress = worker.app.progress
    while not progress.recovered:
        await asyncio.sleep(_POLL_S)
    started = time.perf_counter()
    while progress.records < count:
        await asyncio.sleep(_POLL_S)
    await worker.app.committer.commit()
    report(started, count)
    print(worker.metrics.page().decode(), file=sys.stderr)
    stop.set()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    calm_collector()
    run(work(settings_of(sys.argv[1], sys.argv[3], sys.argv[4]), int(sys.argv[2])))
