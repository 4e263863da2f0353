"""What a newer release wrote stops an older worker with a sentence, and is not written over.

The newer release is played by records with the next version, which no program of ours makes yet.
"""

import asyncio
import json
import os
import sys

import msgpack
import pytest
from aiokafka import AIOKafkaProducer

from clickpath import simulation
from clickpath.wire.state import USER_VERSION
from serving.embedded import shipped_model
from stream.models.record import ACTIVE_KEY
from tests.kafka.marks import in_every_delivery
from tests.promises.versions import models, twin_of_shipped

pytestmark = [pytest.mark.broker, pytest.mark.slow]


NEWER = "a {} has version 2; this program reads up to 1: a newer release wrote it, and has to go on"


async def put(shop, topic: str, key: bytes, value: bytes, partition: int) -> None:  # type: ignore[no-untyped-def]
    producer = AIOKafkaProducer(bootstrap_servers=shop.settings.bootstrap_servers, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await producer.stop()


async def ended(worker) -> int:  # type: ignore[no-untyped-def]
    return await asyncio.wait_for(worker.wait(), 120)


@in_every_delivery
async def test_a_state_of_a_newer_release_stops_the_worker_and_stays(
    make_shop, running, to_lines, delivery
) -> None:
    shop = await make_shop(delivery=delivery)
    changelog = shop.settings.topics.changelog
    clicks = list(simulation.simulate(400, 20, seed=51))
    user = clicks[-1].user_id.encode()
    worker = await running(shop)
    await shop.produce(to_lines(clicks))
    await shop.handled(worker)
    assert await worker.stop() == 0

    # The next release takes the user over, and is taken back.
    last = [each for each in await shop.on(changelog) if each.key == user][-1]
    assert last.value is not None
    fields = msgpack.unpackb(last.value)
    theirs = msgpack.packb([USER_VERSION + 1, *fields[1:], "what nobody knows yet"])
    await put(shop, changelog, user, theirs, last.partition)
    committed = await shop.committed()
    others = {each.offset for each in await shop.on(changelog) if each.partition == last.partition}

    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        await shop.produce(to_lines([clicks[-1]]))
        assert await ended(worker) == 1
    finally:
        await worker.kill()

    assert worker.log_tail(1).endswith(
        f"the worker has crashed: a stored user state has schema version {USER_VERSION + 1}; this "
        f"program reads up to {USER_VERSION}: a newer release wrote it, and has to go on"
    )
    assert await shop.committed() == committed
    now = [each for each in await shop.on(changelog) if each.partition == last.partition]
    assert {each.offset for each in now} == others
    assert [each.value for each in now if each.key == user][-1] == theirs


async def test_a_newer_release_that_says_which_model_decides_is_not_overruled(
    make_shop, running, to_lines, tmp_path
) -> None:
    shop = await make_shop(model_repository=str(tmp_path / "versions"), session_timeout_s="3")
    version = (await models(shop, "add", str(twin_of_shipped(tmp_path / "twin"))))["version"]
    await models(shop, "add", str(shipped_model()))
    await models(shop, "promote", version, "--force")
    worker = await running(shop)
    [active] = [each for each in await shop.on("models") if each.key == ACTIVE_KEY]
    standing = json.loads(active.value or b"")
    newer = json.dumps(standing | {"v": 2, "number": standing["number"] + 1, "why": []}).encode()
    await put(shop, "models", ACTIVE_KEY, newer, active.partition)

    # One that runs is not ready any more, nor alive, so that it is started again ...
    said = NEWER.format("record of the active model")
    async with asyncio.timeout(60):
        while (await worker.page("/ready"))[0] != 503:  # noqa: ASYNC110 - a page tells nobody
            await asyncio.sleep(0.1)
    status, page = await worker.page("/health")
    assert (status, "models are not followed any more" in page) == (503, True)
    assert f"the models topic is not followed any more: {said}" in shop.log()
    assert await worker.stop() == 0

    # ... and then ends at once, with the same sentence; nor does a command write over it.
    worker = shop.worker()
    await worker.start()
    assert await ended(worker) == 1
    assert said in worker.log_tail(1)
    refused = await models(shop, "promote", version, "--force", fails=True)
    assert said in refused["complaint"]
    records = [each for each in await shop.on("models") if each.key == ACTIVE_KEY]
    assert records[-1].value == newer


async def test_an_archive_does_not_pass_over_an_erasure_of_a_newer_release(
    make_shop, tmp_path
) -> None:
    shop = await make_shop(session_timeout_s="3")
    receipt = {"v": 2, "mark": "0" * 32, "steps": ["erase", "forget"]}
    await put(shop, "erasures", b"0" * 32, json.dumps(receipt).encode(), 0)
    for _ in range(2):
        # The second one finds it again.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clickpath", "archive", "--once"),
            *("--to", str(tmp_path / "archive")),
            *("--bootstrap-servers", shop.settings.bootstrap_servers),
            env={**os.environ, **shop.environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 1
        assert said.decode().rstrip().endswith(NEWER.format("receipt of an erasure"))
