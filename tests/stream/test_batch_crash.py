"""Rules of the batch engine when a worker dies without a word."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.stream.counting import (
    PARTITIONS,
    PATIENCE_S,
    Job,
    committed,
    counting_app,
    finished,
    on_both_stores,
    produce,
    read_all,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.broker, on_both_stores]


async def _start(
    job: Job,
    repository: Path,
    commit_interval_s: float = 0.5,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.stream.killed_worker", job.servers, job.name, str(commit_interval_s)),
        *("at-least-once", *([str(job.folder / "killed")] if job.folder else [])),
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=asyncio.subprocess.PIPE,
    )


async def _chunks(process: asyncio.subprocess.Process, count: int) -> None:
    """Waits until it has begun so many chunks."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(count):
            assert await process.stdout.readline(), "the worker ended by itself"


@pytest.mark.slow
async def test_a_killed_worker_leaves_no_wrong_state_and_loses_no_output(
    job: Job, repository: Path
) -> None:
    # Far more than the three of them can finish, however far they are ahead of their last line.
    count = 120_000
    expected = await produce(job, count)
    for chunks in (150, 90, 200):
        process = await _start(job, repository)
        await _chunks(process, chunks)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    async with running(counting_app(job, stamped=True, outputs=True)) as last:
        await until(lambda: last.app.progress.recovered, "states restored")
        await until(lambda: finished(last) == count, "all records processed")
        assert wrong(last.states(), expected) == []
    sent = {value for _, _, value in await read_all(job.servers, job.out)}
    assert len(sent) == count


async def test_sigterm_ends_a_worker_with_code_0_and_everything_committed(
    job: Job, repository: Path
) -> None:
    expected = await produce(job, 80_000)
    process = await _start(job, repository)
    await _chunks(process, 100)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    done = await committed(job)
    assert done >= 10_000
    async with running(counting_app(job)) as second:
        await until(lambda: second.app.progress.recovered, "states restored")
        await until(lambda: len(second.processed) >= 80_000 - done, "the rest")
        assert wrong(second.states(), expected) == []


async def test_state_newer_than_the_offsets_is_met_with_the_records_again(job: Job) -> None:
    # As after a death between the changelog's acknowledgement and the offsets' commit.
    expected = await produce(job, 2_000)
    async with running(counting_app(job, stamped=True)) as first:
        await until(lambda: len(first.processed) >= 2_000, "all records processed")
    await _set_offsets(job, 100)
    async with running(counting_app(job, stamped=True)) as second:
        await until(lambda: len(second.processed) >= 1_600, "the records come again")
        assert wrong(second.states(), expected) == []
    assert min(offset for _, offset in second.processed) == 100


async def _set_offsets(job: Job, offset: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=job.servers, group_id=job.name)
    await consumer.start()
    try:
        partitions = [TopicPartition(job.topic, each) for each in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, offset))
    finally:
        await consumer.stop()


@pytest.mark.slow
async def test_a_worker_that_slept_overwrites_nothing_of_the_new_owner(
    job: Job, repository: Path
) -> None:
    expected = await produce(job, 30_000)
    # It wakes up in the middle of its work, with a commit that is due at once.
    sleeper = await _start(job, repository, commit_interval_s=0.05)
    await _chunks(sleeper, 20)
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        async with running(counting_app(job, stamped=True)) as owner:
            progress = owner.app.progress
            await until(lambda: len(progress.partitions) == PARTITIONS, "a new owner")
            await until(lambda: finished(owner) == 30_000, "all processed")
            await owner.app.committer.commit()
            os.kill(sleeper.pid, signal.SIGCONT)
            await until(lambda: len(progress.partitions) < PARTITIONS, "the sleeper is back")
        sleeper.terminate()
        assert await asyncio.wait_for(sleeper.wait(), PATIENCE_S) == 0
    finally:
        if sleeper.returncode is None:
            sleeper.kill()
    async with running(counting_app(job, stamped=True)) as last:
        await until(lambda: last.app.progress.recovered, "states restored")
        assert wrong(last.states(), expected) == []
    assert last.processed == []
