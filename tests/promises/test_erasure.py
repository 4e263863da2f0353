"""Erasure: the state goes, the mark stays, archive and trainer obey, and the user may come back."""

import asyncio
import json
import os
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from clickpath import simulation
from clickpath.cli import main
from clickpath.erasure import mark_of
from stream.commands.state import users_on_changelog
from stream.reading import read_topic
from tests.kafka.marks import in_every_delivery
from tests.promises.shop import lines_of
from tests.promises.test_dead_letters import run_command
from training.corpus import corpus_at
from training.examples import user_hash

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def shoppers(events: int, users: int) -> tuple[list, str, bytes]:  # type: ignore[type-arg]
    clicks = list(simulation.simulate(events, users, seed=7))
    user, _ = Counter(click.user_id for click in clicks).most_common(1)[0]
    return clicks, user, user.encode()


@in_every_delivery
async def test_a_user_is_erased_everywhere_and_may_come_back_as_a_new_one(
    make_shop, running, oracle, monkeypatch, capsys, tmp_path, delivery
) -> None:
    archive = tmp_path / "archive"
    shop = await make_shop(
        model="none",
        delivery=delivery,
        session_timeout_s="3",
        commit_interval_s="0.3",
        archive=str(archive),
        archive_flush_s="0.5",
    )
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    clicks, user, key = shoppers(1_500, 30)
    mine = [click for click in clicks if click.user_id == user]
    expected = await oracle(shop, lines_of([each for each in clicks if each.user_id != user]))
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers, "--json"]

    worker = await running(shop)
    await shop.produce(lines_of(clicks))
    await shop.handled(worker)
    assert await run_command("erase", user, *brokers) == 0
    receipt = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (receipt["mark"], receipt["states"]) == (mark_of(user), 1)
    assert receipt["events"] == len(mine) > 20
    assert len(receipt["before_offset"]) == 4
    assert receipt["kept_elsewhere_ms"][shop.settings.clicks_topic] == 7 * 86_400_000

    last = [
        each async for each in read_topic(shop.settings.connection, shop.settings.topics.changelog)
    ]
    assert [each.value for each in last if each.key == key][-1] is None
    assert key not in await users_on_changelog(shop.settings)
    assert await shop.state_hash() == expected.state_hash
    marks = await shop.on(shop.settings.erasures_topic)
    assert {each.key for each in marks} == {mark_of(user).encode()}
    assert f'"{user}"' not in repr(marks)

    # Somebody who comes back is new.
    back = [replace(each, event_id=f"back-{n}") for n, each in enumerate(mine[:5])]
    await shop.produce(lines_of(back))
    # Requests are records of the topic, too.
    shop.produced += 8
    await shop.handled(worker)
    assert await worker.stop() == 0
    state = (await users_on_changelog(shop.settings))[key]
    alone = await oracle(shop, lines_of(back))
    assert state.path == alone.run.users[key].path

    refused: Counter[str] = Counter()
    entries = list(corpus_at(str(archive), "archive").entries(refused))
    assert refused == {"erased": len(mine)}
    assert sum(each[0] == user_hash(user) for each in entries) == len(back)
    assert await run_command("erase", "--archive", str(archive), "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["archive"]
    assert told["clicks"] == len(mine)
    rows = pl.read_parquet(archive / "clicks").filter(pl.col("user_id") == user)
    assert sorted(rows["event_id"]) == sorted(each.event_id for each in back)
    assert len(pl.read_parquet(archive / "clicks")) == len(clicks) - len(mine) + len(back)
    refused.clear()
    assert list(corpus_at(str(archive), "archive").entries(refused)) == entries
    assert refused == {}


@in_every_delivery
async def test_an_erasure_survives_a_kill_at_any_point_and_gives_no_intervention_twice(
    make_shop, running, oracle, monkeypatch, capsys, delivery
) -> None:
    shop = await make_shop(delivery=delivery, session_timeout_s="3", commit_interval_s="0.5")
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    clicks, user, key = shoppers(4_000, 20)
    everything = await oracle(shop, lines_of(clicks))
    without = await oracle(shop, lines_of([each for each in clicks if each.user_id != user]))
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers, "--json"]

    worker = await running(shop)
    await shop.produce(lines_of(clicks))
    erasing = asyncio.create_task(run_command("erase", user, *brokers))
    kills = 0
    most = int(os.environ.get("PROVE_KILLS", "2"))
    while not erasing.done() and kills < most:
        await asyncio.wait([erasing], timeout=0.3 * (kills + 1))
        await worker.kill()
        kills += 1
        worker = await running(shop)
    assert await erasing == 0
    receipt = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert receipt["states"] == 1
    assert await worker.stop() == 0

    assert kills > 0
    assert key not in await users_on_changelog(shop.settings)
    assert await shop.state_hash() == without.state_hash
    assert set(await shop.interventions()) == everything.ids
    assert await shop.interventions_hash() == everything.interventions.hexdigest()


async def test_without_a_worker_it_says_so_and_the_request_is_done_later(
    make_shop, running, monkeypatch, capsys
) -> None:
    shop = await make_shop(model="none", session_timeout_s="3")
    clicks, user, key = shoppers(200, 4)
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    await shop.produce(lines_of(clicks))

    assert await run_command("erase", user, "--timeout-s", "1", *brokers) == 1
    told = capsys.readouterr().err
    assert "no worker of the group clickpath has done the step 'erase' in 1 s" in told
    assert told.count("\n") == 1

    worker = await running(shop)
    shop.produced += 4
    await shop.handled(worker)
    # Nothing but the offset is left of the user, until the command is run to its end.
    assert (await users_on_changelog(shop.settings))[key].path.steps == ()
    assert await run_command("erase", user, *brokers) == 0
    assert await worker.stop() == 0
    assert key not in await users_on_changelog(shop.settings)


def test_a_mistake_is_one_sentence(capsys, embedded) -> None:
    assert main(["erase"]) == 2
    assert main(["erase", "u-1", "--bootstrap-servers", embedded]) == 2
    assert main(["erase", "u" * 257]) == 2
    # No click may come under such an id any more, but a state from earlier may be there.
    assert main(["erase", "jan@example.com", "--bootstrap-servers", embedded]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("clickpath: name a user, or an archive")
    assert "there is no topic clicks" in told[1]
    assert told[2].startswith("clickpath: no user has the id 'uuu")
    assert "there is no topic clicks" in told[3]
