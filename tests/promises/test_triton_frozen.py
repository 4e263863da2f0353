"""Promises 6 and 7 together: Triton stands still (SIGSTOP) in the middle of a trial."""

import asyncio
import json
import signal
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from clickpath import simulation
from serving.card import read_card
from serving.embedded import shipped_model
from tests.promises.shop import under_load
from tests.promises.versions import models, twin_of_shipped
from tests.serving.triton_chaos import cause, due

pytestmark = [pytest.mark.triton, pytest.mark.broker, pytest.mark.slow]

RATE = 250


class Trial:
    """A twin of the champion on trial at a shop under load.

    Attributes:
        shop, worker, site: What it is made of.
        lines: The clicks that are produced, `shop.produced` of them so far.
        champion, twin: Digests of the models.
    """

    def __init__(self, shop, worker, site, lines, twin) -> None:  # type: ignore[no-untyped-def]
        self.shop, self.worker, self.site, self.lines = shop, worker, site, lines
        self.champion, self.twin = read_card(shipped_model()).digest, twin

    async def figure(self, name: str) -> float:
        """A figure of the candidate, as the worker itself tells it."""
        return float((await self.worker.samples()).get(("candidate", name), 0))

    async def fallbacks(self) -> float:
        """How many decisions were made without scores."""
        page = await self.worker.samples()
        return sum(n for (name, _), n in page.items() if name == "fallbacks_total")

    async def status(self) -> dict[str, object]:
        """What `clickpath models status` says."""
        return await models(self.shop, "status")

    async def falls_back(self, times: int) -> None:
        """Waits for so many more decisions without scores."""
        before = await self.fallbacks()
        async with asyncio.timeout(120):
            while await self.fallbacks() < before + times:
                pass

    async def stands_still(self) -> None:
        """Stops the server, until the worker goes on without it."""
        self.site.server.signal(signal.SIGSTOP)
        await self.falls_back(30)

    async def ended(self) -> dict[str, object]:
        """Waits for the end of the trial; its status."""
        async with asyncio.timeout(120):
            while (status := await self.status())["phase"] in ("shadow", "ramp"):
                pass
        return status


@asynccontextmanager
async def trial(make_shop, running, to_lines, tmp_path, site, *plan):  # type: ignore[no-untyped-def]
    """Begins a trial under load, and in the end holds the decisions against those that are due."""
    shop = await make_shop(**site.settings, predict_deadline_s="1")
    twin = await site.add(shop, twin_of_shipped(tmp_path / "twin"))
    lines = to_lines(simulation.simulate(60_000, 1_500, seed=53))
    worker = await running(shop)
    async with under_load(shop, lines, RATE):
        await models(shop, "promote", twin, "--force", *plan)
        yield Trial(shop, worker, site, lines, twin)
    await shop.handled(worker)
    assert await worker.stop() == 0
    causes = [cause(record.value) for record in await shop.on("decisions")]
    assert len(causes) == len({*causes}), "a decision was repeated"
    assert {*causes} == await due(lines[: shop.produced], tmp_path)


@pytest.mark.parametrize("site", ["Triton"], indirect=True)
async def test_a_shadow_neither_ends_while_the_server_stands_still_nor_stays_when_it_goes_on(
    make_shop, running, to_lines, tmp_path, site
) -> None:
    plan = ("--shadow-s", "1", "--steps", "100", "--step-s", "1", "--least-outcomes", "60")
    async with trial(make_shop, running, to_lines, tmp_path, site, *plan) as on:
        async with asyncio.timeout(120):
            while await on.figure("pairs") < 10:
                pass
        await on.stands_still()
        pairs = await on.figure("pairs")
        await on.falls_back(30)
        still = await on.status()
        assert (still["phase"], await on.figure("pairs")) == ("shadow", pairs), still
        on.site.server.signal(signal.SIGCONT)
        status = await on.ended()
        print(f"\nstood still in the shadow: {still}, then {status}")
        assert (status["phase"], status["champion"]) == ("active", on.twin), status
    decisions = [json.loads(record.value) for record in await on.shop.on("decisions")]
    scored = Counter(each["model"] for each in decisions if each["scores"] is not None)
    assert scored.keys() == {on.champion, on.twin}


@pytest.mark.parametrize("site", ["Triton"], indirect=True)
async def test_in_a_ramp_a_server_that_stands_still_makes_no_champion_and_its_end_is_told(
    make_shop, running, to_lines, tmp_path, site
) -> None:
    plan = ("--shadow-s", "0", "--steps", "50,100", "--step-s", "1", "--least-outcomes", "60")
    async with trial(make_shop, running, to_lines, tmp_path, site, *plan) as on:
        async with asyncio.timeout(120):
            while not (await on.worker.samples()).get(("model_share", on.twin)):
                pass
        await on.stands_still()
        stopped = await on.status()
        assert stopped["champion"] == on.champion, stopped
        on.site.server.signal(signal.SIGCONT)
        status = await on.ended()
        print(f"\nstood still in the ramp: {stopped}, then {status}")
        # Whose calls fail first is chance: where the champion's do, the candidate is excused.
        assert status["phase"] in ("rolled-back", "active"), status
        if status["phase"] == "rolled-back":
            assert "failed 3 times in a row" in str(status["reason"]), status
        decides = ("model_paths", str(status["champion"]))
        scored = (await on.worker.samples()).get(decides, 0)
        async with asyncio.timeout(120):
            while (await on.worker.samples()).get(decides, 0) <= scored:
                pass
