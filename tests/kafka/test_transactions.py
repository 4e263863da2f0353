"""Transactional delivery: whatever happens, a read-committed consumer sees each output once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from stream.batch.records import Chunk
from tests.stream.counting import (
    PARTITIONS,
    PATIENCE_S,
    Job,
    counting_app,
    handled,
    produce,
    read_all,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def start(job: Job, repository: Path, commit_interval_s: float) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.stream.killed_worker", job.servers, job.name, str(commit_interval_s)),
        "transactional",
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=asyncio.subprocess.PIPE,
    )


async def chunks(process: asyncio.subprocess.Process, count: int) -> None:
    """Waits until it has begun so many chunks."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(count):
            assert await process.stdout.readline(), "the worker ended by itself"


async def repeated(job: Job, count: int) -> list[bytes | None]:
    """Outputs that a read-committed consumer sees more than once; all others it sees once."""
    seen = Counter(value for _, _, value in await read_all(job.servers, job.out))
    assert len(seen) == count
    return [value for value, times in seen.items() if times > 1]


async def test_kill_9_repeats_no_output_and_no_change_of_state(job: Job, repository: Path) -> None:
    count = 20_000
    expected = await produce(job, count)
    # In the middle of transactions, as often as not: they follow upon each other.
    for begun in (40, 50):
        process = await start(job, repository, commit_interval_s=0.05)
        await chunks(process, begun)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    async with running(counting_app(job, outputs=True, transactional=True)) as last:
        await until(lambda: last.app.progress.recovered, "states restored")
        await handled(job, count)
        assert wrong(last.states(), expected) == []
    assert last.exit_code == 0
    assert len(set(last.processed)) < count
    assert await repeated(job, count) == []


async def test_workers_that_come_and_go_repeat_nothing(job: Job) -> None:
    async def take_some_time(_: Chunk) -> None:
        # What is left when the second worker has joined is enough for both of them.
        alone = len(first.processed) > 1_000 and not second.app.progress.assignment
        await asyncio.sleep(0.1 if alone else 0.01)

    def worker():  # type: ignore[no-untyped-def]
        return counting_app(
            job, around=take_some_time, chunk_records=50, outputs=True, transactional=True
        )

    count = 10_000
    expected = await produce(job, count)
    first, second = worker(), worker()
    async with running(first):
        await until(lambda: len(first.processed) > 1_000, "the first worker is busy")
        async with running(second):
            await until(lambda: len(second.processed) > 1_000, "both workers are busy")
            assert 0 < len(second.app.progress.assignment) < PARTITIONS
        await handled(job, count)
        assert wrong(first.states(), expected) == []
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert await repeated(job, count) == []


async def test_a_worker_that_slept_commits_nothing_more(job: Job, repository: Path) -> None:
    count = 12_000
    expected = await produce(job, count)
    sleeper = await start(job, repository, commit_interval_s=0.05)
    await chunks(sleeper, 20)
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        async with running(counting_app(job, outputs=True, transactional=True)) as owner:
            progress = owner.app.progress
            await until(lambda: len(progress.partitions) == PARTITIONS, "a new owner")
            await handled(job, count)
            os.kill(sleeper.pid, signal.SIGCONT)
            await until(lambda: len(progress.partitions) < PARTITIONS, "the sleeper is back")
        sleeper.terminate()
        assert await asyncio.wait_for(sleeper.wait(), PATIENCE_S) == 0
    finally:
        if sleeper.returncode is None:
            sleeper.kill()
    async with running(counting_app(job, transactional=True)) as last:
        await until(lambda: last.app.progress.recovered, "states restored")
        assert wrong(last.states(), expected) == []
    assert last.processed == []
    assert await repeated(job, count) == []


async def test_an_output_is_seen_when_the_commit_is_done_not_before(job: Job) -> None:
    await produce(job, 1_000)
    worker = counting_app(job, outputs=True, transactional=True, commit_interval_s=30.0)
    async with running(worker):
        await until(lambda: len(worker.processed) == 1_000, "all records processed")
        assert await read_all(job.servers, job.out) == []
    # The stop commits.
    assert await repeated(job, 1_000) == []
