"""The archive's reader as an application: topics in, rows kept, published, states committed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from clickpath.errors import ClickpathError, ConfigError
from clickpath.wire.state import UserState, dump_user, load_user
from stream.archive.keeper import Keeper, PublishingCommitter
from stream.archive.place import Place
from stream.archive.reader import (
    Clock,
    Last,
    dump_last,
    load_last,
    read_clicks,
    read_decisions,
    read_erasures,
)
from stream.archive.shelf import Card, Shelf, open_archive
from stream.batch.app import BatchApp, batch_app
from stream.batch.records import Chunk
from stream.batch.table import KeyedTable
from stream.batch.worker import run_app
from stream.settings import Settings
from stream.wiring import make_edge, make_store

logger = logging.getLogger(__name__)

#: The largest state in a changelog.
_RECORD_LIMIT_BYTES: Final = 4 << 20

#: How long a rebalance waits for rows to be published.
_REBALANCE_S: Final = 120.0

#: A broker may answer an end that is short of the real one: reading goes on until this long
#: nothing came, but not for ever.
_IDLE_S: Final = 0.7
_MORE_S: Final = 5.0
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Archive:
    """A reader that has been put together and not been started.

    Attributes:
        app: The application.
        keeper: What has been read and is not published yet.
        counts: What became of the records since the start.
    """

    app: BatchApp
    keeper: Keeper
    counts: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, object]:
        """What was done since the start, under the names that the command prints."""
        written, counts = self.keeper.written, self.counts
        names = ("duplicates", "late", "dead_letters", "repeated", "refused", "skipped")
        return {
            "clicks": written.clicks,
            "decisions": written.decisions,
            "erasures": written.erasures,
            "files": written.files,
            **{name: counts[name] for name in names},
        }


def archive_group(settings: Settings) -> str:
    """The consumer group of the archive, and the prefix of its changelogs."""
    return f"{settings.app_id}-archive"


def changelogs(settings: Settings) -> dict[str, str]:
    """The changelogs of the archive's states, with the topic that each one follows."""
    group = archive_group(settings)
    return {
        f"{group}-users-changelog": settings.clicks_topic,
        f"{group}-decisions-changelog": settings.decisions_topic,
    }


def check_archive(settings: Settings) -> Place:
    """The place of the archive that the settings name, made if there is none yet.

    Raises:
        ConfigError: No archive is named, or the one there does not fit the settings.
        UsageError: Its address cannot be used.
        FatalError: It cannot be read or written.
    """
    if not settings.archive:
        raise ConfigError("no archive is named: give --to ADDRESS, or set CLICKPATH_ARCHIVE")
    place = Place(settings.archive)
    open_archive(place, Card(buckets=settings.archive_buckets, group=archive_group(settings)))
    return place


def create_archive(settings: Settings, clock: Clock) -> Archive:
    """Puts a reader together; nothing connects before `run_archive`.

    Args:
        settings: The settings of the worker whose topics it reads.
        clock: The present in epoch milliseconds.

    Raises:
        ConfigError: No archive is named, or the one there does not fit the settings.
    """
    place = check_archive(settings)
    app = batch_app(
        archive_group(settings),
        connection=settings.connection,
        commit_interval_s=settings.archive_flush_s,
        session_timeout_s=settings.session_timeout_s,
        rebalance_timeout_s=_REBALANCE_S,
        record_limit_bytes=_RECORD_LIMIT_BYTES,
        compression=None if settings.compression == "none" else settings.compression,
        store=make_store(settings),
    )

    def shelf(kind: str, topic: str, partition: int) -> Shelf:
        return Shelf(place, kind, topic, partition, buckets=settings.archive_buckets, clock=clock)

    kinds = {
        settings.clicks_topic: "clicks",
        settings.decisions_topic: "decisions",
        settings.erasures_topic: "erasures",
    }
    keeper = Keeper(kinds, shelf, app.progress, settings.archive_buffer_mb << 20)
    app.committer = PublishingCommitter(app.batch_group, app.outputs, keeper)
    archive = Archive(app, keeper)
    _add_agents(archive, settings, clock)
    return archive


def _add_agents(archive: Archive, settings: Settings, clock: Clock) -> None:
    app, keeper, counts = archive.app, archive.keeper, archive.counts
    window, edge = settings.window, make_edge(settings)
    clicks = app.topic(settings.clicks_topic, batch=True)
    decisions = app.topic(settings.decisions_topic, batch=True)
    erasures = app.topic(settings.erasures_topic, batch=True)
    users: KeyedTable[UserState] = app.keyed_table(
        "users", source=clicks, dumps=dump_user, loads=lambda raw: load_user(raw, window)
    )
    decided: KeyedTable[Last] = app.keyed_table(
        "decisions", source=decisions, dumps=dump_last, loads=load_last
    )

    @app.agent(clicks, name="archive-clicks")
    async def on_clicks(chunks: AsyncIterable[Chunk]) -> None:
        async for chunk in chunks:
            await _make_room(app, keeper, chunk)
            rows, changed = read_clicks(
                chunk,
                users.partition(chunk.partition),
                window=window,
                max_future_ms=settings.max_future_s * 1000,
                clock=clock,
                counts=counts,
                edge=edge,
            )
            # Rows, states and the end of the chunk are one step, without an await.
            users.write(chunk.partition, changed)
            keeper.add(chunk, rows)

    @app.agent(decisions, name="archive-decisions")
    async def on_decisions(chunks: AsyncIterable[Chunk]) -> None:
        async for chunk in chunks:
            await _make_room(app, keeper, chunk)
            rows, changed = read_decisions(chunk, decided.partition(chunk.partition), counts)
            decided.write(chunk.partition, changed)
            keeper.add(chunk, rows)

    @app.agent(erasures, name="archive-erasures")
    async def on_erasures(chunks: AsyncIterable[Chunk]) -> None:
        async for chunk in chunks:
            await _make_room(app, keeper, chunk)
            keeper.add(chunk, read_erasures(chunk, counts))


async def _make_room(app: BatchApp, keeper: Keeper, chunk: Chunk) -> None:
    """Publishes before a chunk is read if too much is in memory; nothing of it is written yet."""
    if keeper.full:
        await app.committer.commit()
    await keeper.open(chunk)


async def run_archive(
    archive: Archive, finish: asyncio.Event, patience_s: float | None = None
) -> int:
    """Reads until SIGTERM or SIGINT, or, once `finish` is set, to the present end of the topics.

    Args:
        archive: The reader.
        finish: Tells to end.
        patience_s: How long the end of the topics may be away from then on; None for ever.

    Returns:
        The exit code: 0 after an ordinary stop, 1 after a crash.

    Raises:
        ClickpathError: What made it crash, if it is a matter for the operator.
    """
    stop = asyncio.Event()
    watching = asyncio.create_task(_stop_at_the_end(archive.app, finish, patience_s, stop))
    try:
        code = await run_app(archive.app, stop=stop)
    finally:
        watching.cancel()
    reason = archive.app.crash_reason
    if isinstance(reason, ClickpathError):
        raise reason
    return code


async def _stop_at_the_end(
    app: BatchApp, finish: asyncio.Event, patience_s: float | None, stop: asyncio.Event
) -> None:
    await finish.wait()
    try:
        async with asyncio.timeout(patience_s):
            await _at_the_end(app)
    except TimeoutError:
        logger.warning("not at the end of the topics after %g s; the rest is for later", patience_s)
    stop.set()


async def _at_the_end(app: BatchApp) -> None:
    """Returns once everything that now lies on the assigned partitions was read."""
    progress = app.progress
    loop = asyncio.get_running_loop()
    ends: dict[tuple[str, int], int] = {}
    reached_s: float | None = None
    records, still_since_s = -1, loop.time()
    while True:
        await asyncio.sleep(_LOOK_S)
        if not progress.recovered:
            ends = {}
            continue
        if set(ends) != progress.assignment:
            ends, reached_s = await _ends(app), None
            continue
        # Some brokers list the base of the last batch as the end; the answers to fetches tell it.
        if progress.records != records or progress.lag_events:
            records, still_since_s = progress.records, loop.time()
        parts = progress.partitions
        if any(each not in parts or parts[each].acked < end for each, end in ends.items()):
            continue
        reached_s = reached_s or loop.time()
        if loop.time() > min(still_since_s + _IDLE_S, reached_s + _MORE_S):
            return


async def _ends(app: BatchApp) -> dict[tuple[str, int], int]:
    """The ends of the assigned partitions; empty if the broker does not tell now."""
    partitions = [TopicPartition(*each) for each in app.progress.assignment]
    if not partitions:
        return {}
    try:
        found = await app.batch_group.consumer.end_offsets(partitions)
    except KafkaError as error:
        logger.warning("the ends of the topics are not known: %r", error)
        return {}
    return {(each.topic, each.partition): end for each, end in found.items()}
