"""Promise 7: a worse model does not stay. Nobody's hand puts it back, and it takes no minute."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from clickpath import simulation
from serving.card import read_card
from serving.embedded import shipped_model
from stream.models.record import ACTIVE_KEY
from tests.kafka.marks import on_triton_too
from tests.promises.versions import (
    models,
    trained_on_shuffled_labels,
    twin_of_shipped,
    until_phase,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: Clicks a second of the shop: a fast test that a slow machine still follows.
RATE = 400


def on_kafka(*case: str) -> ParameterSet:
    """A case on Apache Kafka; each of them takes long, so not all are combined."""
    return pytest.param("apache-kafka", *case, marks=pytest.mark.kafka)


def on_triton(*case: str) -> ParameterSet:
    """A case whose versions a tritonserver runs."""
    return pytest.param("embedded", "at-least-once", "Triton", *case, marks=pytest.mark.triton)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_on_shuffled_labels(tmp_path_factory.mktemp("bad") / "model")


async def records_of_active(shop) -> list[tuple[int, dict[str, object]]]:  # type: ignore[no-untyped-def]
    """What was written under `active`, with the broker's times."""
    return [
        (record.timestamp_ms, json.loads(record.value))
        for record in await shop.on(shop.settings.models_topic)
        if record.key == ACTIVE_KEY
    ]


async def leading(workers) -> list:  # type: ignore[no-untyped-def,type-arg]
    """Whoever has the first partition, once they agree on it."""
    async with asyncio.timeout(60):
        while True:
            found = [each for each in workers if ("lag_events", "0") in await each.samples()]
            if len(found) == 1:
                return found


@pytest.mark.parametrize(
    ("broker_kind", "delivery", "site", "how"),
    [
        ("embedded", "at-least-once", "own folder", "in the shadow"),
        ("embedded", "at-least-once", "own folder", "at 100 %"),
        on_kafka("at-least-once", "own folder", "in the shadow"),
        on_kafka("transactional", "own folder", "at 100 %"),
        on_triton("in the shadow"),
        on_triton("at 100 %"),
    ],
    indirect=["broker_kind", "site"],
)
async def test_a_bad_model_that_was_forced_through_is_rolled_back_in_under_a_minute_by_itself(
    make_shop, running, to_lines, bad, how, delivery, site
) -> None:
    shop = await make_shop(**site.settings, delivery=delivery)
    version = await site.add(shop, bad)
    refused = await models(shop, "promote", version, fails=True)
    assert "the gate refuses" in refused["complaint"]

    for _ in range(2):
        await running(shop)
    lines = to_lines(simulation.simulate(80_000, 1_500, seed=29))
    producing = asyncio.create_task(shop.produce(lines, events_per_s=RATE))
    await models(shop, "promote", version, "--force", *(["--at-once"] if how == "at 100 %" else []))
    status = await until_phase(shop, "active", "rolled-back")
    assert not producing.done(), "it was not under load"
    producing.cancel()
    await asyncio.wait([producing])
    champion = read_card(shipped_model()).digest
    assert (status["phase"], status["champion"]) == ("rolled-back", champion)
    assert status["forced"] is True

    (began_ms, _), *_, (ended_ms, _) = await records_of_active(shop)
    recorded = await shop.on(shop.settings.decisions_topic)
    decisions = [(each.timestamp_ms, json.loads(each.value)) for each in recorded]
    by_bad = [at_ms for at_ms, each in decisions if each["model"] == version]
    print(
        f"\nforced {how}: rolled back after {(ended_ms - began_ms) / 1000:.1f} s at {RATE} clicks "
        f"a second, {len(by_bad)} of {len(decisions)} decisions were its: {status['reason']}"
    )
    assert ended_ms - began_ms < 60_000
    assert bool(by_bad) == (how == "at 100 %")
    assert all(at_ms < ended_ms + 20_000 for at_ms in by_bad)


@pytest.mark.parametrize(
    ("broker_kind", "delivery"),
    [("embedded", "at-least-once"), on_kafka("transactional")],
    indirect=["broker_kind"],
)
async def test_the_leading_worker_is_killed_and_the_bad_model_is_still_rolled_back(
    make_shop, running, to_lines, tmp_path, bad, delivery
) -> None:
    shop = await make_shop(
        model_repository=str(tmp_path / "versions"), session_timeout_s="6", delivery=delivery
    )
    version = (await models(shop, "add", str(bad)))["version"]
    workers = [await running(shop), await running(shop)]
    leaders = await leading(workers)
    lines = to_lines(simulation.simulate(80_000, 1_500, seed=31))
    await models(shop, "promote", version, "--force", "--at-once")
    [leader] = leaders
    await leader.kill()
    begun_s = time.monotonic()
    producing = asyncio.create_task(shop.produce(lines, events_per_s=RATE))
    status = await until_phase(shop, "active", "rolled-back")
    producing.cancel()
    await asyncio.wait([producing])
    print(f"\nwithout the leader: rolled back {time.monotonic() - begun_s:.1f} s after its death")
    assert status["phase"] == "rolled-back"
    assert time.monotonic() - begun_s < 60


@on_triton_too
async def test_a_candidate_that_cannot_be_loaded_is_rolled_back_and_the_champion_decides_on(
    make_shop, running, to_lines, tmp_path, site
) -> None:
    shop = await make_shop(**site.settings)
    version = await site.add(shop, twin_of_shipped(tmp_path / "twin"))
    worker = await running(shop)
    await models(shop, "promote", version, "--force")
    graph = site.directory_of(version) / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    # A new worker reads the changed file; the one that runs may have read it before.
    await worker.stop()
    worker = await running(shop)
    await shop.produce(to_lines(simulation.simulate(2_000, 100, seed=37)))
    status = await until_phase(shop, "active", "rolled-back")
    assert status["phase"] == "rolled-back"
    assert "model.onnx has digest" in str(status["reason"])
    await shop.handled(worker)
    recorded = await shop.on(shop.settings.decisions_topic)
    assert {json.loads(each.value)["model"] for each in recorded} == {
        read_card(shipped_model()).digest
    }
