"""Erasure where states are on disk: the user leaves the files, while workers come and go."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from clickpath import simulation
from clickpath.erasure import mark_of
from clickpath.events import Click
from stream.commands.state import users_on_changelog
from tests.kafka.marks import in_every_delivery
from tests.promises.shop import PARTITIONS, Shop, lines_of
from tests.promises.test_dead_letters import run_command

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: What a disk store does not share with a neighbour, so that its bytes stand in a file as they are.
USER = "zebra-canary-4711"


def shoppers(events: int, users: int) -> list[Click]:
    """Clicks, those of one user under the id that is looked for."""
    clicks = list(simulation.simulate(events, users, seed=7))
    first = clicks[0].user_id
    return [replace(each, user_id=USER) if each.user_id == first else each for each in clicks]


def files_with_the_user(folder: Path) -> list[Path]:
    return [
        each for each in folder.rglob("*") if each.is_file() and USER.encode() in each.read_bytes()
    ]


async def erased(shop: Shop, capsys, monkeypatch, user: str = USER) -> dict:  # type: ignore[no-untyped-def, type-arg]
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers, "--json"]
    assert await run_command("erase", user, *brokers) == 0, capsys.readouterr().err
    # Two requests lie in each partition.
    shop.produced += 2 * PARTITIONS
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def with_disk(shop: Shop, folder: Path) -> Shop:
    """The same shop for a worker with another disk."""
    environ = {**shop.environ, "CLICKPATH_STORE_DIR": str(folder)}
    folder.mkdir()
    return Shop(shop.settings.bootstrap_servers, folder, environ)


@in_every_delivery
async def test_with_the_receipt_the_user_is_in_no_file_of_the_worker(
    make_shop, running, oracle, monkeypatch, capsys, tmp_path, delivery
) -> None:
    disk = tmp_path / "states"
    shop = await make_shop(
        model="none",
        delivery=delivery,
        session_timeout_s="3",
        commit_interval_s="0.3",
        store="rocksdb",
        store_dir=str(disk),
    )
    clicks = shoppers(3_000, 60)
    rest = await oracle(shop, lines_of([each for each in clicks if each.user_id != USER]))
    worker = await running(shop)
    await shop.produce(lines_of(clicks))
    await shop.handled(worker)
    assert files_with_the_user(disk)

    receipt = await erased(shop, capsys, monkeypatch)
    assert receipt["states"] == 1
    assert files_with_the_user(disk) == []
    # Erased twice, or never seen: there is nothing to find, and nothing is in the way.
    for user in (USER, "nobody-knows"):
        again = await erased(shop, capsys, monkeypatch, user)
        assert (again["mark"], again["states"], again["events"]) == (mark_of(user), 0, 0)
    assert await shop.state_hash() == rest.state_hash
    assert await worker.stop() == 0
    assert files_with_the_user(disk) == []

    # What the disk holds is the truth for the next start, too.
    worker = await running(shop)
    back = [replace(each, event_id=f"back-{n}") for n, each in enumerate(clicks)][:200]
    await shop.produce(lines_of(back))
    await shop.handled(worker)
    assert await worker.stop() == 0
    alone = await oracle(shop, lines_of(each for each in back if each.user_id == USER))
    key = USER.encode()
    assert (await users_on_changelog(shop.settings))[key].path == alone.run.users[key].path


async def test_a_worker_that_was_down_forgets_the_user_when_it_comes_back(
    make_shop, running, monkeypatch, capsys, tmp_path
) -> None:
    shop = await make_shop(
        model="none",
        session_timeout_s="3",
        commit_interval_s="0.3",
        store="rocksdb",
        store_dir=str(tmp_path / "of-none"),
    )
    one, two = (with_disk(shop, tmp_path / name) for name in ("one", "two"))
    first = await running(one)
    await one.produce(lines_of(shoppers(1_000, 20)))
    await one.handled(first)
    await first.kill()
    assert files_with_the_user(tmp_path / "one")

    second = await running(two)
    assert (await erased(two, capsys, monkeypatch))["states"] == 1
    assert files_with_the_user(tmp_path / "two") == []
    # As docs/privacy.md has it: who does not run cannot forget.
    assert files_with_the_user(tmp_path / "one")
    assert await second.stop() == 0

    first = await running(one)
    assert files_with_the_user(tmp_path / "one") == []
    assert await first.stop() == 0
    assert USER.encode() not in await users_on_changelog(one.settings)


async def test_an_erasure_during_rebalances_is_done_by_whoever_has_the_partition(
    make_shop, running, oracle, monkeypatch, capsys, tmp_path
) -> None:
    shop = await make_shop(
        model="none",
        session_timeout_s="3",
        commit_interval_s="0.3",
        store="rocksdb",
        store_dir=str(tmp_path / "of-none"),
    )
    shops = [with_disk(shop, tmp_path / f"disk-{n}") for n in range(3)]
    clicks = shoppers(4_000, 40)
    rest = await oracle(shop, lines_of([each for each in clicks if each.user_id != USER]))
    workers = [await running(shops[0])]
    await shop.produce(lines_of(clicks))

    erasing = asyncio.create_task(erased(shop, capsys, monkeypatch))
    # One joins, another joins, one is killed and one leaves, while two steps are under way.
    workers += [await running(shops[1])]
    workers += [await running(shops[2])]
    await workers[0].kill()
    assert await workers[1].stop() == 0
    assert (await erasing)["states"] == 1
    await shop.handled(workers[2])
    assert await workers[2].stop() == 0

    assert await shop.state_hash() == rest.state_hash
    assert files_with_the_user(tmp_path / "disk-2") == []


@pytest.mark.kafka
@pytest.mark.parametrize("broker_kind", ["apache-kafka"], indirect=True)
async def test_the_changelog_of_a_real_broker_forgets_the_user_when_it_is_compacted(
    make_shop, running, monkeypatch, capsys, apache_kafka
) -> None:
    shop = await make_shop(model="none", commit_interval_s="0.3", compression="none")
    changelog = shop.settings.topics.changelog
    admin = AIOKafkaAdminClient(bootstrap_servers=shop.settings.bootstrap_servers)
    await admin.start()
    # A tombstone, which has the user for its key, goes some time after what it stands for.
    soon = {"max.compaction.lag.ms": "1000", "delete.retention.ms": "1000"}
    soon["cleanup.policy"] = "compact"
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, changelog, configs=soon)])
    await admin.close()
    [node] = apache_kafka.nodes

    def left() -> list[Path]:
        folders = node.data.glob(f"{changelog}-*")
        return [each for folder in folders for each in files_with_the_user(folder)]

    worker = await running(shop)
    clicks = shoppers(1_000, 20)
    await shop.produce(lines_of(clicks))
    await shop.handled(worker)
    assert left()
    receipt = await erased(shop, capsys, monkeypatch)
    assert receipt["kept_elsewhere_ms"][changelog] == 1_000
    # A segment is closed by a later record; then it is the broker's to compact it.
    others = [each for each in clicks if each.user_id != USER]
    async with asyncio.timeout(180):
        n = 0
        while left():
            n += 1
            more = [replace(each, event_id=f"{n}-{each.event_id}") for each in others[-200:]]
            await shop.produce(lines_of(more))
            await shop.handled(worker)
            await asyncio.sleep(1)
    assert await worker.stop() == 0
