"""Brokers that go while a worker works: nothing acknowledged is lost, nothing ends in silence."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from clickpath import simulation
from stream.process import WorkerProcess
from tests.kafka.apache import ApacheKafka, Node
from tests.kafka.marks import started_or_skipped
from tests.promises.shop import Oracle, Shop, lines_of, names_of_its_own

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_EVENTS = 4_000
_PACE = 1_500


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApacheKafka]:
    """Three nodes; every topic has three copies, of which two have to acknowledge."""
    yield from started_or_skipped(ApacheKafka(nodes=3))


async def make_shop(kafka: ApacheKafka, folder: Path, **settings: str) -> Shop:
    environ = {f"CLICKPATH_{name.upper()}": value for name, value in settings.items()}
    environ |= {**names_of_its_own(), "CLICKPATH_MODEL": "none"}
    environ |= {"CLICKPATH_COMMIT_INTERVAL_S": "0.2"}
    shop = Shop(kafka.bootstrap_servers, folder, environ)
    if len(kafka.nodes) == 3:
        await shop.create_topics(replication=3, **{"min.insync.replicas": "2"})
    else:
        await shop.create_topics()
    return shop


async def delete(kafka: ApacheKafka, topic: str) -> None:
    """Deletes a topic."""
    admin = AIOKafkaAdminClient(**kafka.connection.client_arguments())
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def leader_of(kafka: ApacheKafka, topic: str) -> Node:
    """The node that leads the first partition of a topic."""
    admin = AIOKafkaAdminClient(**kafka.connection.client_arguments())
    await admin.start()
    try:
        [described] = await admin.describe_topics([topic])
    finally:
        await admin.close()
    number = min(described["partitions"], key=lambda part: part["partition"])["leader"]
    return kafka.nodes[number - 1]


async def answer(worker: WorkerProcess, page: str, status: int, words: str = "") -> None:
    """Waits until a page of the worker answers with a status and these words."""
    async with asyncio.timeout(120):
        while True:
            found, text = await worker.page(page)
            if found == status and words in text:
                return
            await asyncio.sleep(0.1)


async def assert_as_one_process(shop: Shop, lines: list, *, once: bool) -> None:  # type: ignore[type-arg]
    expected = await Oracle(shop.settings).replay(lines)
    sent = await shop.interventions()
    assert set(sent) == expected.ids
    assert len(expected.ids) > 20
    assert await shop.state_hash() == expected.state_hash
    if once:
        assert {len(records) for records in sent.values()} == {1}


@pytest.mark.parametrize("delivery", ["at-least-once", "transactional"])
async def test_nothing_acknowledged_is_lost_with_the_leader(
    cluster: ApacheKafka, tmp_path: Path, delivery: str
) -> None:
    shop = await make_shop(cluster, tmp_path, delivery=delivery)
    lines = lines_of(simulation.simulate(_EVENTS, 300, seed=5))
    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        # Every line is acknowledged, or the producer raises.
        producing = asyncio.create_task(shop.produce(lines, events_per_s=_PACE))
        async with asyncio.timeout(120):
            while not await shop.committed():
                pass
        leader = await leader_of(cluster, shop.settings.clicks_topic)
        leader.kill()
        await producing
        await shop.handled(worker)
        assert await worker.stop() == 0
    finally:
        await worker.kill()
        await asyncio.to_thread(cluster.restart, leader)
    assert len(await shop.on(shop.settings.clicks_topic)) >= len(lines)
    await assert_as_one_process(shop, lines, once=delivery == "transactional")


async def test_a_worker_goes_on_when_all_brokers_were_restarted(
    cluster: ApacheKafka, tmp_path: Path
) -> None:
    shop = await make_shop(cluster, tmp_path, unready_after_s="3")
    lines = lines_of(simulation.simulate(_EVENTS, 300, seed=6))
    half = len(lines) // 2
    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        await shop.produce(lines[:half])
        cluster.kill()
        await answer(worker, "/ready", 503, "no commit for")
        await asyncio.to_thread(cluster.start)
        await shop.produce(lines[half:])
        await shop.handled(worker)
        await answer(worker, "/ready", 200)
        assert await worker.stop() == 0
    finally:
        await worker.kill()
    await assert_as_one_process(shop, lines, once=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory; only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "clickpath-test", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def on_a_small_disk(small_disk: Path) -> Iterator[ApacheKafka]:
    """Three nodes, of which the first one has a small disk."""
    yield from started_or_skipped(ApacheKafka(nodes=3, data=small_disk / "data"))


async def test_a_full_disk_takes_one_broker_and_no_event(
    on_a_small_disk: ApacheKafka, small_disk: Path, tmp_path: Path
) -> None:
    shop = await make_shop(on_a_small_disk, tmp_path)
    lines = lines_of(simulation.simulate(_EVENTS, 300, seed=7))
    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        producing = asyncio.create_task(shop.produce(lines, events_per_s=_PACE))
        await asyncio.to_thread(_fill, small_disk / "other")
        await producing
        await shop.handled(worker)
        assert await worker.stop() == 0
    finally:
        await worker.kill()
    [full, *_] = on_a_small_disk.nodes
    assert await asyncio.to_thread(full.ended, 120)
    assert "No space left on device" in full.log.read_text(errors="replace")
    await assert_as_one_process(shop, lines, once=False)


def _fill(file: Path) -> None:
    """Writes until the disk is full."""
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(1 << 16))
        except OSError:
            # What is left for smaller writes.
            with file.open("ab", buffering=0) as rest:
                try:
                    while True:
                        rest.write(b"\0")
                except OSError:
                    return


@pytest.fixture(scope="module")
def single() -> Iterator[ApacheKafka]:
    """One node that may be stopped and paused."""
    yield from started_or_skipped()


async def test_a_broker_that_hangs_fails_readiness_then_health_until_it_answers_again(
    single: ApacheKafka, tmp_path: Path
) -> None:
    shop = await make_shop(single, tmp_path, unready_after_s="2", stalled_after_s="5")
    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        await answer(worker, "/health", 200)
        single.nodes[0].pause()
        try:
            await answer(worker, "/ready", 503, "no commit for")
            await answer(worker, "/health", 503, "no commit for")
        finally:
            single.nodes[0].go_on()
        await answer(worker, "/ready", 200)
        assert await worker.stop() == 0
    finally:
        await worker.kill()


async def test_a_topic_that_is_deleted_under_the_worker_fails_readiness(
    single: ApacheKafka, tmp_path: Path
) -> None:
    shop = await make_shop(single, tmp_path)
    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        await delete(single, shop.settings.clicks_topic)
        missing = f"there is no topic {shop.settings.clicks_topic}"
        await answer(worker, "/ready", 503, missing)
    finally:
        await worker.kill()


async def test_a_topic_out_of_sight_during_a_rebalance_is_looked_for_at_once(
    single: ApacheKafka, tmp_path: Path
) -> None:
    # As a broker that has just begun does not know it yet. By itself the client looks again after
    # five minutes, and until then nobody would have its partitions.
    shop = await make_shop(single, tmp_path)
    worker = shop.worker()
    await worker.start()
    try:
        await worker.wait_ready(120)
        await delete(single, shop.settings.clicks_topic)
        async with asyncio.timeout(120):
            while "assigned: no partition" not in worker.log_tail(100):  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.1)
        await shop.create_topics()
        await shop.produce(lines_of(simulation.simulate(500, 50, seed=9)))
        await shop.handled(worker, timeout_s=120)
        assert await worker.stop() == 0
    finally:
        await worker.kill()


async def test_a_topic_with_too_small_a_limit_stops_the_worker_with_what_to_do(
    single: ApacheKafka, tmp_path: Path
) -> None:
    shop = await make_shop(single, tmp_path)
    await shop.limit(shop.settings.decisions_topic, max_message_bytes=2_000)
    await shop.produce(lines_of(simulation.simulate(3_000, 50, seed=8)))
    worker = shop.worker()
    await worker.start()
    try:
        code = await asyncio.wait_for(worker.wait(), 120)
    finally:
        await worker.kill()
    assert code == 1
    last = worker.log_tail(1)
    assert f"the topic {shop.settings.decisions_topic} refuses a batch" in last
    assert "--add-config max.message.bytes=" in last
