"""Promise 3: a crash at any point gives neither a lost intervention nor a second id for a cause."""

import asyncio
import json
import os
import random

import pytest

from clickpath import simulation

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KILLS = int(os.environ.get("PROVE_KILLS", "5"))


async def test_kill_9_under_load_loses_nothing_and_doubles_nothing(
    make_shop, running, oracle, to_lines, prove_events
) -> None:
    shop = await make_shop(session_timeout_s="6", commit_interval_s="0.5")
    lines = to_lines(simulation.simulate(prove_events, prove_events // 20, seed=21))
    expected = await oracle(shop, lines)
    luck = random.Random(21)

    # Slow enough that every kill finds the worker with records before it.
    load_s = 4.0 * KILLS + 4
    producing = asyncio.create_task(shop.produce(lines, events_per_s=len(lines) / load_s))
    worker = await running(shop)
    killed_under_load = 0
    for _ in range(KILLS):
        await asyncio.sleep(luck.uniform(0.2, 2.0))  # the random moment is the point
        killed_under_load += not producing.done() or await shop.committed() < len(lines)
        await worker.kill()
        worker = await running(shop)
    await producing
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
        f"\n{KILLS} kills ({killed_under_load} under load), {len(lines)} events, "
        f"{len(by_id)} interventions, {repeated} repeated under their id"
    )
    assert killed_under_load == KILLS
    assert expected.ids - set(by_id) == set(), "interventions lost"
    assert set(by_id) - expected.ids == set(), "interventions that nobody decided"
    assert [ids for ids in causes.values() if len(ids) > 1] == []
    assert await shop.interventions_hash() == expected.interventions.hexdigest()
    assert await shop.state_hash() == expected.state_hash
