"""What workers saw of a candidate adds up, through a join, a crash and a leave."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from clickpath import simulation
from stream.broker import EmbeddedBroker
from tests.promises.shop import Shop
from tests.promises.versions import models, twin_of_shipped

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SLOWLY = ("--shadow-s", "86400", "--force")


async def pairs_of(workers: Sequence[Any]) -> list[int]:
    """What each worker itself says that it has seen since it began."""
    return [int((await each.samples()).get(("candidate", "pairs"), 0)) for each in workers]


async def on_trial(twin: str, worker: Any) -> None:
    """Waits until a worker tries the candidate."""
    async with asyncio.timeout(60):
        while ("model_share", twin) not in await worker.samples():
            pass


async def test_what_a_worker_saw_goes_on_counting_when_it_is_gone(
    make_shop, running, to_lines, tmp_path
) -> None:
    shop = await make_shop(model_repository=str(tmp_path / "versions"), session_timeout_s="6")
    twin = (await models(shop, "add", str(twin_of_shipped(tmp_path / "twin"))))["version"]
    supply = to_lines(simulation.simulate(9_000, 300, seed=43))

    async def added_up(gone: int, *workers: Any) -> list[int]:
        """Waits until the topic says what those at work say, and those who are gone said."""
        status, seen = {}, [-1]
        async with asyncio.timeout(60):
            while status.get("pairs") != gone + sum(seen):
                seen = await pairs_of(workers)
                status = await models(shop, "status")
        assert status["phase"] == "shadow"
        return seen

    async def handled(part: int, worker: Any) -> None:
        await shop.produce(supply[3_000 * part : 3_000 * (part + 1)])
        await shop.handled(worker)

    first = await running(shop)
    await models(shop, "promote", twin, *SLOWLY)
    await on_trial(twin, first)
    await handled(0, first)
    [by_first] = await added_up(0, first)
    assert by_first > 0

    second = await running(shop)  # takes partitions of the first one, the lowest perhaps
    await handled(1, second)
    by_first, _ = await added_up(0, first, second)

    await first.kill()
    third = await running(shop)
    await handled(2, second)
    by_second, by_third = await added_up(by_first, second, third)
    print(f"\nby process {by_first}, {by_second}, {by_third}")
    assert await third.stop() == 0
    assert "is lost" not in shop.log(), "the last report of one that stops could not be written"
    assert await added_up(by_first + by_third, second) == [by_second]


async def test_a_broker_that_is_gone_holds_no_stop_up(running, to_lines, tmp_path) -> None:
    with EmbeddedBroker() as broker:
        environ = {
            "CLICKPATH_MODEL_REPOSITORY": str(tmp_path / "versions"),
            "CLICKPATH_PREDICT_DEADLINE_S": "60",
        }
        shop = Shop(broker.bootstrap_servers, tmp_path, environ)
        await shop.create_topics()
        twin = (await models(shop, "add", str(twin_of_shipped(tmp_path / "twin"))))["version"]
        worker = await running(shop)
        await models(shop, "promote", twin, *SLOWLY)
        await on_trial(twin, worker)
        await shop.produce(to_lines(simulation.simulate(3_000, 100, seed=43)))
        await shop.handled(worker)
        async with asyncio.timeout(60):
            while await pairs_of([worker]) == [0]:
                pass
    assert await worker.stop(timeout_s=20) == 0
    assert "what this worker saw last of the candidate is lost" in shop.log()
