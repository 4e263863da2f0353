"""Promise 1: the path state is a function of the set of events, with a broker or without."""

from itertools import islice
from pathlib import Path

import pytest

from clickpath import simulation
from clickpath.logs import read_log
from clickpath.simulation.faults import shuffled_within, with_duplicates
from tests.kafka.marks import on_both_brokers

DATA = Path(__file__).parents[3] / "shared" / "data"
REAL_LOGS = {
    "taobao": DATA / "taobao" / "UserBehavior.csv.gz",
    "diginetica_raw": DATA / "diginetica_raw",
}

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@on_both_brokers
async def test_the_worker_ends_where_the_replay_ends(
    make_shop, running, oracle, to_lines, prove_events
) -> None:
    shop = await make_shop()
    lines = to_lines(simulation.simulate(prove_events, prove_events // 20, seed=11))
    expected = await oracle(shop, lines)

    worker = await running(shop)
    await shop.produce(lines)
    await shop.handled(worker)
    assert await worker.stop() == 0

    assert await shop.state_hash() == expected.state_hash
    assert await shop.interventions_hash() == expected.interventions.hexdigest()
    assert len(expected.ids) > 50


@on_both_brokers
async def test_disorder_and_copies_end_in_the_same_state(
    make_shop, running, oracle, to_lines, prove_events
) -> None:
    shop = await make_shop()
    clicks = list(simulation.simulate(prove_events, prove_events // 20, seed=12))
    lateness_ms = shop.settings.window.lateness_ms
    mixed = to_lines(with_duplicates(shuffled_within(clicks, lateness_ms, 12), 0.1, 12))
    in_order = await oracle(shop, to_lines(clicks))
    as_sent = await oracle(shop, mixed)

    worker = await running(shop)
    await shop.produce(mixed)
    await shop.handled(worker)
    assert await worker.stop() == 0

    assert await shop.state_hash() == as_sent.state_hash == in_order.state_hash
    assert await shop.interventions_hash() == as_sent.interventions.hexdigest()


@pytest.mark.data
@pytest.mark.parametrize("name", REAL_LOGS)
async def test_a_real_log_ends_the_same_also_shuffled_and_with_copies(
    make_shop, running, oracle, name, prove_events
) -> None:
    if not REAL_LOGS[name].exists():
        pytest.skip(f"the real log {name} is not on this machine")
    shop = await make_shop()
    lines = list(islice(read_log(REAL_LOGS[name], name), prove_events))
    expected = await oracle(shop, lines)

    worker = await running(shop)
    await shop.produce(lines)
    await shop.handled(worker)
    assert await worker.stop() == 0

    assert expected.run.tally.accepted > 0.9 * len(lines)
    assert await shop.state_hash() == expected.state_hash
    assert await shop.interventions_hash() == expected.interventions.hexdigest()
