"""The worker: clicks in, decisions and interventions out, the users' states kept between.

    clicks -> chunk -> handler -> outputs acknowledged -> states written -> chunk acknowledged
                                                       commit: changelog, then offsets

A crash before the commit repeats a chunk from states and offsets that belong together; every
decision in it comes out again under its id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass

from clickpath import __version__
from clickpath.encoding import Encoder
from clickpath.wire.state import UserState, dump_user, load_user
from serving.cache_counts import CountsCache
from serving.call_counts import CountsCalls
from serving.predictor import Predictor
from stream.archive.beside import Beside
from stream.batch.app import BatchApp, batch_app
from stream.batch.outputs import OutputTooLarge
from stream.batch.records import Chunk, OutputRecord
from stream.batch.table import KeyedTable
from stream.drift import DriftOfWorker
from stream.handler import Handler
from stream.health import Pages, Verdict
from stream.letters import cut_to_fit
from stream.metrics import Metrics
from stream.models.rollout import Rollout
from stream.models.wiring import make_drift, make_rollout, switching
from stream.placement import Placement
from stream.settings import Settings
from stream.spans import Tracer
from stream.wiring import make_handler, make_store

logger = logging.getLogger(__name__)

#: The largest dead letter: an event far over its limit, with headers.
_RECORD_LIMIT_BYTES = 4 << 20

#: Most records handled at once: every chunk waits once for the acknowledgement of its outputs.
_CHUNK_RECORDS = 4_000

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has been put together and not been started.

    Attributes:
        app: The Faust application.
        users: The users' states, by user id in UTF-8.
        handler: What is done with a chunk.
        metrics: What is counted.
        pages: Health, readiness and metrics over HTTP.
        archive: The reader that archives what the worker sees; None where no archive is kept.
        tracer: Follows clicks to their interventions; None where nobody traces.
        rollout: Its part in switching models; None without a model repository.
        topics: The topics that have to be there.
    """

    app: BatchApp
    users: KeyedTable[UserState]
    handler: Handler
    metrics: Metrics
    pages: Pages
    archive: Beside | None
    tracer: Tracer | None
    rollout: Rollout | None
    topics: frozenset[str]


def create_app(
    settings: Settings,
    predictor: Predictor | None,
    clock: Clock,
    tracer: Tracer | None = None,
) -> Worker:
    """Puts a worker together; nothing connects before `stream.running.run_worker`.

    Args:
        settings: The settings.
        predictor: Scores paths; None decides by the fallback policy.
        clock: The present in epoch milliseconds.
        tracer: Follows clicks to their interventions; None traces nothing.

    Raises:
        ConfigError: The policy cannot be accepted, or the archive is another one's.
        UsageError: The archive cannot be where the settings say.
    """
    encoder = Encoder(settings.window)
    versions = switching(settings, predictor)
    handler = make_handler(settings, predictor if versions is None else versions, encoder)
    metrics = Metrics()
    app = batch_app(
        settings.app_id,
        connection=settings.connection,
        commit_interval_s=settings.commit_interval_s,
        session_timeout_s=settings.session_timeout_s,
        instance_id=settings.instance_id or None,
        record_limit_bytes=_RECORD_LIMIT_BYTES,
        chunk_records=_CHUNK_RECORDS,
        transactional=settings.delivery == "transactional",
        compression=None if settings.compression == "none" else settings.compression,
        store=make_store(settings),
    )
    clicks = app.topic(settings.topics.clicks, batch=True)
    users: KeyedTable[UserState] = app.keyed_table(
        "users",
        source=clicks,
        changelog=settings.topics.changelog,
        dumps=dump_user,
        loads=lambda raw: load_user(raw, settings.window),
    )
    rollout = None if versions is None else make_rollout(settings, versions, app, clock)
    placement = Placement(app.batch_group.partitions_of)
    drift = make_drift(settings)
    _add_agent(app, clicks, users, handler, metrics, clock, tracer, rollout, drift, placement)
    archive = _archive_of(settings)
    pages = Pages(
        settings.web_host,
        settings.web_port,
        alive=lambda: _alive(app, settings.stalled_after_s),
        ready=lambda: _ready(app, placement, settings.unready_after_s),
        metrics=lambda: _scrape(
            app, users, handler, metrics, clock, archive, predictor, rollout, drift
        ),
    )
    needed = _topics_of(settings)
    return Worker(app, users, handler, metrics, pages, archive, tracer, rollout, needed)


def _topics_of(settings: Settings) -> frozenset[str]:
    """What has to be there: without models to follow, nobody needs their topic."""
    names = frozenset(settings.topics.configs())
    return names if settings.model_repository else names - {settings.models_topic}


def _archive_of(settings: Settings) -> Beside | None:
    if not settings.archive:
        return None
    # Its libraries are loaded by this look at the archive alone, and only where one is kept.
    from stream.archive.app import check_archive

    check_archive(settings)
    return Beside(settings)


def _add_agent(
    app: BatchApp,
    clicks: object,
    users: KeyedTable[UserState],
    handler: Handler,
    metrics: Metrics,
    clock: Clock,
    tracer: Tracer | None,
    rollout: Rollout | None,
    drift: DriftOfWorker,
    placement: Placement,
) -> None:
    @app.agent(clicks, name="clicks")
    async def on_clicks(chunks: AsyncIterable[Chunk]) -> None:
        async for chunk in chunks:
            begun_s = time.perf_counter()
            view = users.partition(chunk.partition)
            trace = None if tracer is None else tracer.chunk(chunk)
            outcome = await handler.handle(chunk, view, clock(), trace)
            await _send(app, chunk.partition, outcome.outputs)
            # From here to the end of the body there is no await: state and acknowledgement are
            # one step.
            users.write(chunk.partition, outcome.changes())
            metrics.count(outcome.tally)
            metrics.count_placement(placement.look(chunk))
            drift.after_chunk(
                handler.digests.model, outcome.outputs, outcome.users, time.monotonic()
            )
            if rollout is not None:
                rollout.after_chunk(outcome)
            metrics.chunk_seconds.observe(time.perf_counter() - begun_s)
            if trace is not None:
                trace.end()


async def _send(app: BatchApp, partition: int, outputs: Sequence[OutputRecord]) -> None:
    try:
        await app.outputs.send(partition, outputs)
    except OutputTooLarge as error:
        # Nothing was sent. A record that somebody else made must not stop the worker.
        logger.warning("%s; it is cut", error)
        await app.outputs.send(partition, cut_to_fit(outputs, error.limit_bytes))


def _alive(app: BatchApp, stalled_after_s: float) -> Verdict:
    """Fails when for too long nothing was committed, or records wait and none was finished."""
    progress = app.progress
    if app.crashed:
        return Verdict(False, "the worker has crashed and is stopping")
    committed_s, moved_s = progress.last_commit_monotonic_s, progress.last_moved_monotonic_s
    now_s = time.monotonic()
    # Commits are confirmed while states are recovered too, but not by a broker that hangs.
    since_s = committed_s or progress.recovered_monotonic_s
    if since_s is not None and now_s - since_s > stalled_after_s:
        return Verdict(False, f"no commit for {now_s - since_s:.0f} s")
    if not progress.recovered or committed_s is None or moved_s is None:
        return Verdict(True, "starting, or recovering states")
    last = f"last commit {now_s - committed_s:.1f} s ago"
    if now_s - moved_s > stalled_after_s and progress.lag_events:
        return Verdict(
            False,
            f"{progress.lag_events} records wait; none done for {now_s - moved_s:.0f} s; {last}",
        )
    return Verdict(True, last)


def _ready(app: BatchApp, placement: Placement, unready_after_s: float) -> Verdict:
    """Fails while states are not here, or the broker confirms nothing, or a topic is gone."""
    progress = app.progress
    if app.crashed:
        return Verdict(False, "the worker has crashed and is stopping")
    if progress.missing:
        return Verdict(False, f"there is no topic {', '.join(sorted(progress.missing))}")
    if not progress.recovered:
        return Verdict(False, "not in the group yet, or recovering states")
    # A commit asks the broker whether this worker is a member, also when there is nothing to write.
    since_s = progress.last_commit_monotonic_s or progress.recovered_monotonic_s
    if since_s is not None and (age_s := time.monotonic() - since_s) > unready_after_s:
        return Verdict(False, f"no commit for {age_s:.0f} s: does the broker answer?")
    warning = "" if placement.warning is None else f"; warning: {placement.warning}"
    return Verdict(True, f"{len(progress.assignment)} partitions{warning}")


def _scrape(
    app: BatchApp,
    users: KeyedTable[UserState],
    handler: Handler,
    metrics: Metrics,
    clock: Clock,
    archive: Beside | None,
    predictor: Predictor | None,
    rollout: Rollout | None,
    drift: DriftOfWorker,
) -> bytes:
    """Brings the gauges up to date and makes the page."""
    if rollout is not None:
        metrics.count_calls(rollout.predictor.call_counts())
    elif isinstance(predictor, CountsCalls):
        metrics.count_calls(predictor.call_counts())
    if isinstance(predictor, CountsCache) and (cached := predictor.cache_counts()) is not None:
        metrics.count_cache(cached)
    progress, now_ms = app.progress, clock()
    metrics.lag_events.clear()
    metrics.lag_seconds.clear()
    for (_, number), part in progress.partitions.items():
        metrics.lag_events.labels(number).set(part.lag_events)
        metrics.lag_seconds.labels(number).set(part.lag_s(now_ms))
    if progress.last_commit_monotonic_s is not None:
        metrics.commit_age_seconds.set(time.monotonic() - progress.last_commit_monotonic_s)
    metrics.users.set(sum(users.partition(each).size for each in users.partitions))
    metrics.ready.set(progress.recovered)
    metrics.archive_wanted.set(archive is not None)
    metrics.archive.set(archive is not None and archive.running)
    digests = handler.digests
    metrics.info.clear()
    metrics.info.labels(digests.model, digests.policy, digests.encoder, __version__).set(1)
    metrics.models.drift.clear()
    if drift.drift is not None:
        for name, value in drift.drift.figures().items():
            metrics.models.drift.labels(name).set(value)
    if rollout is not None:
        rollout.tell(metrics.models)
    return metrics.page()
