"""Promises 6 and 7 together: Triton is killed in the middle of a rollout."""

import asyncio
import json
import signal
from collections import Counter

import pytest

from clickpath import simulation
from serving.card import read_card
from serving.embedded import shipped_model
from tests.promises.shop import under_load
from tests.promises.versions import models, twin_of_shipped, until_phase
from tests.serving.triton_chaos import cause, due

pytestmark = [pytest.mark.triton, pytest.mark.broker, pytest.mark.slow]

RATE = 300
PLAN = ("--shadow-s", "1", "--steps", "50,100", "--step-s", "8", "--least-outcomes", "5")


async def falls_back(worker) -> None:  # type: ignore[no-untyped-def]
    """Waits until a worker has decided without scores."""
    async with asyncio.timeout(60):
        samples = await worker.samples()
        while not samples.get(("fallbacks_total", "predictor_unavailable")):
            samples = await worker.samples()


@pytest.mark.parametrize("site", ["Triton"], indirect=True)
async def test_a_rollout_outlives_a_server_that_is_killed_and_loses_and_repeats_no_event(
    make_shop, running, to_lines, tmp_path, site
) -> None:
    shop = await make_shop(**site.settings, predict_deadline_s="2")
    twin = await site.add(shop, twin_of_shipped(tmp_path / "twin"))
    champion = read_card(shipped_model()).digest
    lines = to_lines(simulation.simulate(60_000, 1_500, seed=47))
    workers = [await running(shop), await running(shop)]
    async with under_load(shop, lines, RATE):
        await models(shop, "promote", twin, "--force", *PLAN)
        await until_phase(shop, "ramp")
        site.server.signal(signal.SIGKILL)
        await asyncio.to_thread(site.server.stop)
        for worker in workers:
            await falls_back(worker)
        await asyncio.to_thread(site.server.start)
        status = await until_phase(shop, "active", "rolled-back")
    await shop.handled(workers[0])
    assert [await worker.stop() for worker in workers] == [0, 0]

    records = await shop.on("decisions")
    decisions = [json.loads(record.value) for record in records]
    causes = [cause(record.value) for record in records]
    scored = Counter(each["model"] for each in decisions if each["scores"] is not None)
    fallbacks = Counter(each["fallback"] for each in decisions if each["fallback"] is not None)
    print(
        f"\nkilled during the ramp: {status['phase']}, {status['reason']}; {len(decisions)} "
        f"decisions, by model {dict(scored)}, without scores {dict(fallbacks)}"
    )
    expected = {"active": (twin, champion), "rolled-back": (champion, None)}[str(status["phase"])]
    assert (status["champion"], status["previous"]) == expected
    assert len(causes) == len({*causes}), "a decision was repeated"
    assert {*causes} == await due(lines[: shop.produced], tmp_path)
    # Where it is rolled back, the candidate may have had no time to score any.
    assert scored.keys() == {champion, twin} if status["phase"] == "active" else champion in scored
    assert scored.keys() <= {champion, twin}
    assert fallbacks["predictor_unavailable"] > 0
