"""Promise 6 from the start on: a worker begins without Triton, and no model that does not fit."""

import asyncio
import json

import pytest

from clickpath import simulation
from serving.card import read_card, write_card
from serving.embedded import shipped_model
from serving.local_server.server import LocalServer
from serving.repository.config import ServingPlan
from serving.repository.versions import add_version
from stream.process import free_port
from tests.serving.conftest import twin_of

pytestmark = [pytest.mark.triton, pytest.mark.broker, pytest.mark.slow]

PLAN = ServingPlan(backend="python")


async def not_ready(worker) -> str:  # type: ignore[no-untyped-def]
    """Waits until the worker is in its group, and without its model; what it says."""
    async with asyncio.timeout(120):
        while True:
            status, said = await worker.page("/ready")
            if status == 503 and "fallback policy" in said:
                return str(json.loads(said)["why"])
            assert status != 200
            assert worker.exit_code is None, worker.log_tail()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("follows", [False, True], ids=["one version", "following models"])
async def test_a_worker_starts_without_triton_on_the_fallback_and_takes_the_model_when_it_comes(
    tritonserver, make_shop, to_lines, tmp_path, follows
) -> None:
    repository = tmp_path / "repository"
    add_version(repository, shipped_model(), PLAN)
    port = free_port()
    more = {"model_repository": str(repository)} if follows else {}
    shop = await make_shop(triton_url=f"127.0.0.1:{port}", **more)
    worker = shop.worker()
    await worker.start()
    try:
        lines = to_lines(simulation.simulate(4_000, 200, seed=41))
        await shop.produce(lines[:2_000])
        await shop.handled(worker)
        assert f"127.0.0.1:{port}" in await not_ready(worker)

        with LocalServer(repository, ["clickpath"], port=port):
            await worker.wait_ready(60)
            await shop.produce(lines[2_000:])
            await shop.handled(worker)
            assert await worker.stop() == 0
    finally:
        await worker.kill()

    decisions = [json.loads(record.value) for record in await shop.on("decisions")]
    champion = read_card(shipped_model()).digest
    fallbacks = [each for each in decisions if each["fallback"] is not None]
    scored = [each for each in decisions if each["scores"] is not None]
    assert {each["fallback"] for each in fallbacks} == {"predictor_unavailable"}
    assert {each["model"] for each in fallbacks} == {champion if follows else "none"}
    assert {each["model"] for each in scored} == {champion}
    ids = [each["decision_id"] for each in decisions]
    assert len(ids) == len({*ids})


async def test_a_model_that_does_not_fit_stops_a_worker_that_started_without_triton(
    tritonserver, make_shop, to_lines, tmp_path
) -> None:
    model = twin_of(shipped_model(), tmp_path / "model")
    write_card(read_card(model).model_copy(update={"encoder": "0" * 16}), model)
    add_version(tmp_path / "repository", model, PLAN)
    port = free_port()
    shop = await make_shop(triton_url=f"127.0.0.1:{port}")
    worker = shop.worker()
    await worker.start()
    try:
        await shop.produce(to_lines(simulation.simulate(1_000, 50, seed=43)))
        await not_ready(worker)
        with LocalServer(tmp_path / "repository", ["clickpath"], port=port):
            async with asyncio.timeout(90):
                assert await worker.wait() == 1
    finally:
        await worker.kill()
    assert "was trained with encoder 0000000000000000, the encoder in use is" in shop.log()
    decisions = [json.loads(record.value) for record in await shop.on("decisions")]
    assert decisions
    assert [each for each in decisions if each["scores"] is not None] == []
