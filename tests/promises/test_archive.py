"""Promise 2: the archive holds what the worker saw: each accepted click and each decision once."""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import polars as pl
import pytest

from clickpath import simulation
from clickpath.cli import main
from clickpath.events import Click, Item
from clickpath.simulation.faults import shuffled_within, with_duplicates
from clickpath.vocabulary import canonical_action

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KILLS = int(os.environ.get("PROVE_KILLS", "3"))


def clicks_in(archive: Path) -> list[Click]:
    """The archive's clicks in order of arrival."""
    rows = pl.read_parquet(archive / "clicks").sort("topic", "partition", "offset").to_dicts()
    return [
        Click(
            event_id=row["event_id"],
            user_id=row["user_id"],
            ts_ms=row["ts_ms"],
            action=canonical_action(row["type"]),
            type_name=row["type"],
            items=tuple(Item(**item) for item in row["items"]),
            value_cents=row["value_cents"],
        )
        for row in rows
    ]


def mixed(events: int, seed: int) -> list[Click]:
    """Clicks with copies and disorder, some of it beyond the lateness of ten minutes."""
    clicks = list(simulation.simulate(events, events // 20, seed=seed))
    return list(with_duplicates(shuffled_within(clicks, 1_200_000, seed), 0.1, seed))


async def test_the_archive_beside_a_worker_holds_what_it_accepted_and_decided(
    make_shop, running, oracle, to_lines, tmp_path
) -> None:
    archive = tmp_path / "archive"
    shop = await make_shop(archive=str(archive), archive_flush_s="1", session_timeout_s="3")
    lines = to_lines(mixed(6_000, seed=41))
    expected = await oracle(shop, lines)

    # Killed in the middle, with the archive's reader, which sees the end of its standard input.
    worker = await running(shop)
    await shop.produce(lines[:4_000])
    async with asyncio.timeout(120):
        committed = 0
        while committed < 2_000:
            committed = await shop.committed()
    await worker.kill()
    worker = await running(shop)
    await shop.produce(lines[4_000:])
    await shop.handled(worker)
    assert (await worker.samples())["archive", ""] == 1
    assert await worker.stop() == 0

    again = await oracle(shop, to_lines(clicks_in(archive)))
    assert expected.run.tally.duplicates > 0
    assert expected.run.tally.late > 0
    assert again.run.tally.accepted == again.run.tally.events_in == expected.run.tally.accepted
    assert again.state_hash == expected.state_hash == await shop.state_hash()
    decided = {
        json.loads(record.value)["decision_id"]
        for record in await shop.on(shop.settings.decisions_topic)
    }
    archived = pl.read_parquet(archive / "decisions")["decision_id"].to_list()
    assert len(archived) == len(set(archived)) == expected.run.tally.decisions.total()
    assert set(archived) == decided
    # The trainer's replay of the archive encodes what the worker decided on.
    assert main(["audit", str(archive), "--format", "archive"]) == 0


async def test_kill_9_of_the_archive_neither_loses_nor_doubles_a_row(
    make_shop, oracle, to_lines, tmp_path, repository, prove_events
) -> None:
    archive = tmp_path / "archive"
    # Small buffers: rows are published all the time, so that a kill meets a publishing.
    shop = await make_shop(archive=str(archive), archive_flush_s="0.3", session_timeout_s="2")
    lines = to_lines(mixed(prove_events, seed=42))
    expected = await oracle(shop, lines)
    # Each process finds a part of its own, so that there is always something left to publish.
    size = len(lines) // (KILLS + 1)
    parts = [lines[n * size : (n + 1) * size] for n in range(KILLS)]
    luck = random.Random(42)
    environ = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "CLICKPATH_ARCHIVE": str(archive),
        "CLICKPATH_ARCHIVE_FLUSH_S": "0.05",
        "CLICKPATH_SESSION_TIMEOUT_S": "2",
        "CLICKPATH_BOOTSTRAP_SERVERS": shop.settings.bootstrap_servers,
    }

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clickpath", "archive", *arguments),
            env=environ,
            stdout=asyncio.subprocess.PIPE,
        )

    killed_in_the_middle = 0
    for part in parts:
        await shop.produce(part)
        before = files(archive)
        process = await start()
        async with asyncio.timeout(120):
            while files(archive) == before:
                assert process.returncode is None
                await asyncio.sleep(0.01)
        await asyncio.sleep(luck.uniform(0, 0.1))
        process.kill()
        await process.wait()
        killed_in_the_middle += files(archive) > before
    await shop.produce(lines[KILLS * size :])
    process = await start("--once", "--json")
    stdout, _ = await process.communicate()
    assert process.returncode == 0

    summary = json.loads(stdout.splitlines()[-1])
    print(f"\n{killed_in_the_middle} of {KILLS} kills in the middle; the rest: {summary}")
    again = await oracle(shop, to_lines(clicks_in(archive)))
    assert killed_in_the_middle == KILLS
    assert 0 < summary["clicks"] < expected.run.tally.accepted
    assert again.run.tally.accepted == again.run.tally.events_in == expected.run.tally.accepted
    assert again.state_hash == expected.state_hash


def files(archive: Path) -> int:
    """How many files of rows there are."""
    return sum(1 for _ in (archive / "clicks").glob("*/*/*.parquet"))
