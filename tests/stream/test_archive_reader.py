"""The archive's reader on a broker: rebalances, small buffers, and what stops it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import polars as pl
import pytest

from clickpath import simulation
from clickpath.errors import FatalError
from clickpath.logs import RawLine
from clickpath.wire import click_to_json
from stream.archive.app import Archive, changelogs, create_archive, run_archive
from stream.archive.topics import create_changelogs
from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.commands.arguments import wall_clock_ms
from stream.producing import produce
from stream.settings import Settings
from tests.stream.counting import until

pytestmark = pytest.mark.broker

LINES = [
    RawLine(click.user_id.encode(), click_to_json(click), (), "")
    for click in simulation.simulate(8_000, 200, seed=3)
]


@pytest.fixture
async def settings(
    broker: EmbeddedBroker, request: pytest.FixtureRequest, tmp_path: Path
) -> Settings:
    """Topics and an archive for one test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60]
    settings = Settings(
        bootstrap_servers=broker.bootstrap_servers,
        app_id=name,
        clicks_topic=f"{name}.clicks",
        decisions_topic=f"{name}.decisions",
        archive=str(tmp_path / "archive"),
        archive_flush_s=0.1,
        session_timeout_s=2,
    )
    topics = (settings.clicks_topic, settings.decisions_topic)
    await create_topics(settings.connection, dict.fromkeys(topics, TopicSpec(partitions=4)))
    await create_changelogs(settings.connection, changelogs(settings))
    return settings


async def send(settings: Settings, lines: list[RawLine]) -> None:
    await produce(lines, settings.connection, settings.clicks_topic)


def archived(settings: Settings) -> list[str]:
    return sorted(pl.read_parquet(Path(settings.archive) / "clicks")["event_id"].to_list())


def sent(lines: list[RawLine]) -> list[str]:
    return sorted(re.findall(r'"event_id":"([^"]+)"', b"\n".join(x.value for x in lines).decode()))


class Running:
    """A reader that runs as a task, and is stopped whatever happens."""

    def __init__(self, settings: Settings) -> None:
        self.reader: Archive = create_archive(settings, wall_clock_ms)
        self._finish = asyncio.Event()

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(run_archive(self.reader, self._finish, patience_s=20))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._finish.set()
        await asyncio.wait([self._task], timeout=120)

    @property
    def clicks(self) -> int:
        return self.reader.keeper.written.clicks

    async def owns(self, partitions: int) -> None:
        progress = self.reader.app.progress
        await until(
            lambda: progress.recovered and len(progress.assignment) == partitions,
            f"{partitions} partitions",
        )

    async def finish(self) -> int:
        self._finish.set()
        return await asyncio.wait_for(self._task, 90)


async def test_readers_that_come_and_go_archive_each_row_once(settings: Settings) -> None:
    await send(settings, LINES[:3_000])
    async with Running(settings) as first:
        await until(lambda: first.clicks > 0, "rows in the archive")
        async with Running(settings) as second:
            await send(settings, LINES[3_000:4_000])
            await second.owns(6)
            await send(settings, LINES[4_000:6_000])
            await until(lambda: second.clicks > 0, "rows of the second reader")
            assert await second.finish() == 0
        await send(settings, LINES[6_000:])
        await first.owns(12)
        assert await first.finish() == 0

    assert archived(settings) == sent(LINES)
    assert first.clicks + second.clicks == len(LINES)


async def test_a_small_buffer_publishes_before_the_time_is_over(settings: Settings) -> None:
    await send(settings, LINES)
    patient = {"archive_flush_s": 3_600.0, "archive_buffer_mb": 1}
    async with Running(settings.model_copy(update=patient)) as reader:
        await until(lambda: reader.clicks > 0, "rows in the archive")
        assert await reader.finish() == 0

    assert archived(settings) == sent(LINES)


async def test_an_archive_that_fails_stops_the_reader_with_one_sentence(
    settings: Settings,
) -> None:
    journal = Path(settings.archive) / "_archive" / "journal"
    async with Running(settings) as reader:
        await reader.owns(12)
        journal.write_text("in the way")
        await send(settings, LINES[:100])
        with pytest.raises(FatalError, match=r"^the archive at .* failed: .*journal"):
            await reader.finish()

    journal.unlink()
    async with Running(settings) as reader:
        assert await reader.finish() == 0
    assert archived(settings) == sent(LINES[:100])
