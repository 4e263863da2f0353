"""The worker: clicks in, decisions and interventions out, the users' states kept between.

    clicks -> chunk -> handler -> outputs acknowledged -> states written -> chunk acknowledged
                                                       commit: changelog, then offsets

A crash before the commit repeats a chunk from states and offsets that belong together; every
decision in it comes out again under its id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from clickpath.encoding import Encoder
from clickpath.wire.state import UserState, dump_user, load_user
from serving.predictor import Predictor
from stream.archive.beside import Beside
from stream.batch.app import BatchApp, batch_app
from stream.batch.outputs import OutputTooLarge
from stream.batch.records import Chunk, OutputRecord
from stream.batch.table import KeyedTable
from stream.handler import Handler
from stream.health import Pages
from stream.letters import cut_to_fit
from stream.metrics import Metrics
from stream.models.rollout import Rollout
from stream.models.wiring import make_drift, make_rollout, switching
from stream.personal_ids import PersonalIds
from stream.placement import Placement
from stream.settings import Settings
from stream.spans import Tracer
from stream.watch import Clock, Watch
from stream.wiring import make_handler, make_store

logger = logging.getLogger(__name__)

#: The largest dead letter: an event far over its limit, with headers.
_RECORD_LIMIT_BYTES = 4 << 20

#: Most records handled at once: every chunk waits once for the acknowledgement of its outputs.
_CHUNK_RECORDS = 4_000


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
        standby_replicas=settings.standby_replicas,
    )
    clicks = app.topic(settings.topics.clicks, batch=True)
    users: KeyedTable[UserState] = app.keyed_table(
        "users",
        source=clicks,
        changelog=settings.topics.changelog,
        dumps=dump_user,
        loads=lambda raw: load_user(raw, settings.window),
    )
    watch = Watch(
        app=app,
        users=users,
        handler=handler,
        metrics=metrics,
        placement=Placement(app.batch_group.partitions_of),
        personal_ids=PersonalIds(pseudonyms=bool(settings.pseudonym_key_file)),
        drift=make_drift(settings),
        predictor=predictor,
        rollout=None if versions is None else make_rollout(settings, versions, app, clock),
        archive=_archive_of(settings),
        clock=clock,
        stalled_after_s=settings.stalled_after_s,
        unready_after_s=settings.unready_after_s,
    )
    _add_agent(clicks, watch, tracer)
    pages = Pages(
        settings.web_host,
        settings.web_port,
        alive=watch.alive,
        ready=watch.ready,
        metrics=watch.page,
    )
    needed = _topics_of(settings)
    return Worker(app, users, handler, metrics, pages, watch.archive, tracer, watch.rollout, needed)


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


def _add_agent(clicks: object, watch: Watch, tracer: Tracer | None) -> None:
    app, users, handler, clock = watch.app, watch.users, watch.handler, watch.clock

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
            watch.after_chunk(chunk, outcome, begun_s)
            if trace is not None:
                trace.end()


async def _send(app: BatchApp, partition: int, outputs: Sequence[OutputRecord]) -> None:
    try:
        await app.outputs.send(partition, outputs)
    except OutputTooLarge as error:
        # Nothing was sent. A record that somebody else made must not stop the worker.
        logger.warning("%s; it is cut", error)
        await app.outputs.send(partition, cut_to_fit(outputs, error.limit_bytes))
