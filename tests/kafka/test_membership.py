"""Static membership: a worker with a name comes back to its partitions, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.stream.counting import (
    PARTITIONS,
    Job,
    Worker,
    counting_app,
    produce,
    running,
    until,
    wrong,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def named(job: Job, name: str | None) -> Worker:
    return counting_app(job, stamped=True, session_timeout_s=25.0, instance_id=name)


async def back_again(job: Job, names: tuple[str | None, str | None]) -> tuple[int, int]:
    """Rebalances that a worker sees while another one stops, and once it is back."""
    first, other = named(job, names[0]), named(job, names[1])
    async with running(first):
        async with running(other):
            both = (first.app.progress, other.app.progress)
            await until(
                lambda: all(
                    each.recovered and len(each.assignment) == PARTITIONS // 2 for each in both
                ),
                "both workers have their share",
            )
            before = first.app.progress.rebalances
            share = other.app.progress.assignment
        expected = await produce(job, 2_000)
        again = named(job, names[1])
        async with running(again):
            await until(
                lambda: again.app.progress.recovered and bool(again.app.progress.assignment),
                "it is back",
            )
            await until(
                lambda: len(first.processed) + len(again.processed) >= 2_000, "all processed"
            )
            assert wrong({**first.states(), **again.states()}, expected) == []
            kept = again.app.progress.assignment == share
            return first.app.progress.rebalances - before, kept


async def test_a_restart_within_the_session_timeout_causes_no_rebalance(job: Job) -> None:
    rebalances, kept = await back_again(job, ("one", "two"))
    assert rebalances == 0
    assert kept


async def test_without_a_name_a_restart_moves_partitions(job: Job) -> None:
    rebalances, _ = await back_again(job, (None, None))
    assert rebalances >= 1
