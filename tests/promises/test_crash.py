"""Promise 3: a crash at any point gives neither a lost intervention nor a second id for a cause."""

import asyncio
import json
import os
import random

import pytest

from clickpath import simulation
from tests.kafka.marks import in_every_delivery
from tests.promises.shop import until_handled

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@in_every_delivery
async def test_kill_9_under_load_loses_nothing_and_doubles_nothing(
    make_shop, running, oracle, to_lines, prove_events, broker_kind, delivery
) -> None:
    kills = int(os.environ.get("PROVE_KILLS", "3" if broker_kind == "embedded" else "2"))
    session_s = "6" if broker_kind == "embedded" else "3"
    shop = await make_shop(session_timeout_s=session_s, commit_interval_s="0.5", delivery=delivery)
    lines = to_lines(simulation.simulate(prove_events, prove_events // 20, seed=21))
    expected = await oracle(shop, lines)
    luck = random.Random(21)

    share = -(-len(lines) // (kills + 1))
    killed_under_load = 0
    for kill in range(kills):
        worker = await running(shop)
        part = lines[kill * share : (kill + 1) * share]
        # At a pace, so that some are still to come when it dies, however fast it is.
        producing = asyncio.create_task(shop.produce(part, events_per_s=share / 3))
        await until_handled(worker, luck.uniform(0.1, 0.8) * share)
        await worker.kill()
        await producing
        killed_under_load += await shop.committed() < shop.produced
    worker = await running(shop)
    await shop.produce(lines[kills * share :])
    await shop.handled(worker)
    assert await worker.stop() == 0

    by_id = await shop.interventions()
    causes: dict[tuple[str, str], set[str]] = {}
    for intervention_id, records in by_id.items():
        for record in records:
            cause = json.loads(record.value)
            causes.setdefault((cause["user_id"], cause["cause"]["event_id"]), set()).add(
                intervention_id
            )
    repeated = sum(len(records) - 1 for records in by_id.values())
    print(
        f"\n{kills} kills ({killed_under_load} under load), {len(lines)} events, "
        f"{len(by_id)} interventions, {repeated} repeated under their id"
    )
    assert killed_under_load == kills
    if delivery == "transactional":
        assert repeated == 0
    assert expected.ids - set(by_id) == set(), "interventions lost"
    assert set(by_id) - expected.ids == set(), "interventions that nobody decided"
    assert [ids for ids in causes.values() if len(ids) > 1] == []
    assert await shop.interventions_hash() == expected.interventions.hexdigest()
    assert await shop.state_hash() == expected.state_hash
