"""A copy that follows its source loses nothing when it is killed, and keeps each user's order."""

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest

from clickpath import simulation
from clickpath.logs import RawLine
from clickpath.wire import click_to_json
from stream.broker import TopicSpec, create_topics
from stream.placement import partition_of
from tests.promises.shop import PARTITIONS, Shop
from tests.promises.test_partitioners import send_by_librdkafka

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: Most records that a copy has in hand, and so repeats after its death.
IN_HAND = 5_000

#: No events, or none with a user that could be a key: they are copied as they are.
BROKEN = [b"no event", b'{"event_id":"e","user_id":7}', rb'{"event_id":"e","user_id":"\ud800"}']


def events(parts: int, each: int) -> list[list[RawLine]]:
    lines = [
        RawLine(click.user_id.encode(), click_to_json(click), (), "")
        for click in simulation.simulate(parts * each, 100, seed=9)
    ]
    return [
        [*lines[n * each : (n + 1) * each], *(RawLine(b"k%d" % n, raw, (), "") for raw in BROKEN)]
        for n in range(parts)
    ]


@asynccontextmanager
async def following(shop: Shop, target: str, by: str):  # type: ignore[no-untyped-def]
    """`clickpath repartition --follow` as a process, gone when the context ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clickpath", "repartition", "--follow", "--json", "--by", by),
        *("--from", shop.settings.clicks_topic, "--to", target),
        *("--bootstrap-servers", shop.settings.bootstrap_servers),
        env={**os.environ, **shop.environ},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_copied(shop: Shop, target: str, process, records: int) -> None:  # type: ignore[no-untyped-def]
    copied = 0
    try:
        async with asyncio.timeout(120):
            while (copied := len({each.value for each in await shop.on(target)})) < records:
                assert process.returncode is None
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{copied} of {records} events are on {target}") from None


@pytest.mark.parametrize(
    ("broker_kind", "by"),
    [("embedded", "user"), pytest.param("apache-kafka", "key", marks=pytest.mark.kafka)],
    indirect=["broker_kind"],
)
async def test_a_copy_that_is_killed_loses_no_event_and_keeps_the_order_of_each_user(
    make_shop, running, oracle, tmp_path, by
) -> None:
    shop = await make_shop(model="none", session_timeout_s="3")
    clicks, target = shop.settings.clicks_topic, f"{shop.settings.clicks_topic}.by-user"
    await create_topics(shop.settings.connection, {target: TopicSpec(partitions=PARTITIONS)})
    parts = events(parts=3, each=4_000)
    total = 0
    for n, lines in enumerate(parts):
        # Without a key records lie anywhere; with one, where librdkafka puts them.
        sent = lines if by == "key" else [RawLine(None, x.value, (), "") for x in lines]
        await asyncio.to_thread(send_by_librdkafka, shop.settings.bootstrap_servers, clicks, sent)
        async with following(shop, target, by) as process:
            if n < len(parts) - 1:
                await until_copied(shop, target, process, total + 1)
                process.kill()
                total = len({each.value for each in await shop.on(target)})
                continue
            await until_copied(shop, target, process, sum(map(len, parts)) - 2 * len(BROKEN))
            process.send_signal(signal.SIGTERM)
            out, _ = await process.communicate()
            assert process.returncode == 0
            told = json.loads(out.splitlines()[-1])
    assert told["records"] >= len(parts[-1])
    assert told["moved"] > 0
    assert (told["rekeyed"] > 0) == (by == "user")

    origin = {(each.value, each.partition): each for each in await shop.on(clicks)}
    first = {each.value: each for each in origin.values()}
    copies = await shop.on(target)
    assert {each.value for each in copies} == {line.value for lines in parts for line in lines}
    assert len(copies) - len(await shop.on(clicks)) <= IN_HAND * (len(parts) - 1)
    placed = {each.partition == partition_of(each.key, PARTITIONS) for each in copies if each.key}
    assert placed == {True}
    # By where they came from, the first copies of a user's events are in their order.
    seen: set[bytes] = set()
    order: dict[tuple[int, int], list[int]] = defaultdict(list)
    once = []
    for each in sorted(copies, key=lambda record: (record.partition, record.offset)):
        if each.value not in BROKEN and each.value not in seen:
            seen.add(each.value)
            came = first[each.value]
            order[each.partition, came.partition].append(came.offset)
            once.append(RawLine(each.key, each.value, (), ""))
    assert all(offsets == sorted(offsets) for offsets in order.values())

    # What was repeated is absorbed: a worker ends where one ends that saw each event once.
    expected = await oracle(shop, once)
    names = {"CLICKPATH_CLICKS_TOPIC": target, "CLICKPATH_APP_ID": f"{shop.settings.app_id}-copy"}
    copied = Shop(shop.settings.bootstrap_servers, tmp_path, {**shop.environ, **names})
    await copied.create_topics()
    copied.produced = len(copies)
    worker = await running(copied)
    await copied.handled(worker)
    assert await worker.stop() == 0
    assert await copied.state_hash() == expected.state_hash
