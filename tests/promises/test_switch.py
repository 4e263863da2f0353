"""Promise 7: a switch drops no event, and every decision names the one model that scored it."""

import json

import pytest

from clickpath import simulation
from serving.embedded import shipped_model
from tests.kafka.marks import in_every_delivery_and_on_triton
from tests.promises.shop import under_load
from tests.promises.versions import models, twin_of_shipped

pytestmark = [pytest.mark.broker, pytest.mark.slow]

QUICK = ("--shadow-s", "1", "--steps", "10,50,100", "--step-s", "1", "--least-outcomes", "5")


@in_every_delivery_and_on_triton
async def test_switches_under_load_lose_and_repeat_no_event(
    make_shop, running, oracle, to_lines, prove_events, tmp_path, delivery, site
) -> None:
    shop = await make_shop(**site.settings, delivery=delivery)
    twin = await site.add(shop, twin_of_shipped(tmp_path / "twin"))
    shipped = await site.add(shop, shipped_model())
    # More than the switches take, on a slow machine too; they end it.
    supply = to_lines(simulation.simulate(4 * prove_events, prove_events // 20, seed=23))
    workers = [await running(shop), await running(shop)]
    seen = [shipped]
    async with under_load(shop, supply, prove_events // 40):
        # Up the steps once, and then to and fro as fast as the guards' outcomes come.
        for candidate, how in (
            (twin, QUICK),
            (shipped, ("--at-once", "--step-s", "0", "--least-outcomes", "1")),
            (twin, ("--at-once", "--step-s", "0", "--least-outcomes", "1")),
        ):
            ended = await models(shop, "promote", candidate, "--force", "--wait", *how)
            assert (ended["phase"], ended["champion"]) == ("active", candidate), ended
            seen.append(candidate)
    lines = supply[: shop.produced]
    expected = await oracle(shop, lines)
    await shop.handled(workers[0])
    assert [await worker.stop() for worker in workers] == [0, 0]

    recorded = await shop.on(shop.settings.decisions_topic)
    decisions = [json.loads(record.value) for record in recorded]
    scored = [each["model"] for each in decisions if each["scores"] is not None]
    by_id = await shop.interventions()
    print(
        f"\n{len(seen) - 1} switches under {len(lines)} events: {len(decisions)} decisions, "
        f"scored by twin {scored.count(twin)}, by shipped {scored.count(shipped)}"
    )
    assert {each["model"] for each in decisions} == {twin, shipped}
    ids = [each["decision_id"] for each in decisions]
    assert len(ids) == len({*ids}), "a decision was repeated"
    assert {key: len(records) for key, records in by_id.items()} == dict.fromkeys(expected.ids, 1)
    for each in decisions:  # what left names the model that its decision names
        for record in by_id.get(each["decision_id"], []):
            assert json.loads(record.value)["model"] == each["model"]
    assert len(decisions) == expected.run.tally.decisions.total()
    assert await shop.state_hash() == expected.state_hash
