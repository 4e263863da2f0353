"""Promise 1 needs all events of a user in one partition: a producer that splits paths is seen."""

import asyncio
import json
from collections import defaultdict

import aiohttp
import pytest
from confluent_kafka import Producer

from clickpath import simulation
from clickpath.cli import main
from clickpath.erasure import Request, request_to_record
from clickpath.logs import RawLine
from stream.batch.records import Chunk, RawRecord
from stream.broker import TopicSpec, create_topics
from stream.placement import Placement, partition_of
from stream.repartition import repartition
from tests.kafka.marks import on_both_brokers
from tests.promises.shop import PARTITIONS, lines_of

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def send_by_librdkafka(servers: str, topic: str, lines, **settings: str) -> None:
    producer = Producer({"bootstrap.servers": servers, **settings})
    for line in lines:
        producer.produce(topic, line.value, line.key)
        producer.poll(0)
    assert producer.flush(60) == 0


@on_both_brokers
async def test_a_producer_with_another_partitioner_is_seen_and_its_topic_mended(
    make_shop, running, oracle, monkeypatch, capsys
) -> None:
    shop = await make_shop(model="none", session_timeout_s="3")
    servers, clicks = shop.settings.bootstrap_servers, shop.settings.clicks_topic
    lines = lines_of(simulation.simulate(2_000, 50, seed=5))
    expected = await oracle(shop, lines)
    # Two services of one shop: this one's client is Java's or ours, that one's is librdkafka.
    await shop.produce(lines[::2])
    await asyncio.to_thread(send_by_librdkafka, servers, clicks, lines[1::2])
    shop.produced += len(lines[1::2])

    worker = await running(shop)
    await shop.handled(worker)
    async with aiohttp.ClientSession() as session, session.get(f"{worker.pages}/ready") as answer:
        assert answer.status == 200
        assert "splits the paths of users" in (await answer.json())["why"]
    samples = await worker.samples()
    assert samples["placement_samples_total", "elsewhere"] > 0
    assert await worker.stop() == 0
    assert shop.log().count("splits the paths of users") == 1
    assert await shop.state_hash() != expected.state_hash

    # The copy is read by a shop of its own.
    target = f"{clicks}.by-user"
    monkeypatch.setenv("CLICKPATH_APP_ID", shop.settings.app_id)
    await create_topics(shop.settings.connection, {target: TopicSpec(partitions=PARTITIONS)})
    brokers = ["--bootstrap-servers", servers, "--json"]
    told = []
    for _ in range(2):
        arguments = ["repartition", "--from", clicks, "--to", target, *brokers]
        assert await asyncio.to_thread(main, arguments) == 0
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert told[0]["records"] == 2_000
    assert told[0]["moved"] > 300
    assert (told[0]["rekeyed"], told[0]["no_events"], told[1]["records"]) == (0, 0, 0)

    copies = await shop.on(target)
    assert {each.partition == partition_of(each.key, PARTITIONS) for each in copies} == {True}
    assert sorted(each.value for each in copies) == sorted(line.value for line in lines)
    origin = {record.value: record for record in await shop.on(clicks)}
    order: dict[tuple[int, int], list[int]] = defaultdict(list)
    for each in copies:
        came = origin[each.value]
        order[each.partition, came.partition].append(came.offset)
    assert all(offsets == sorted(offsets) for offsets in order.values())


async def test_a_librdkafka_producer_that_is_told_the_partitioner_is_no_cause_for_a_warning(
    make_shop, running
) -> None:
    shop = await make_shop(model="none")
    lines = lines_of(simulation.simulate(500, 50, seed=5))
    servers, clicks = shop.settings.bootstrap_servers, shop.settings.clicks_topic
    await asyncio.to_thread(
        send_by_librdkafka, servers, clicks, lines, partitioner="murmur2_random"
    )
    shop.produced += len(lines)
    worker = await running(shop)
    await shop.handled(worker)

    samples = await worker.samples()
    assert samples["placement_samples_total", "placed"] > 0
    assert ("placement_samples_total", "elsewhere") not in samples
    assert await worker.stop() == 0


async def test_a_request_for_an_erasure_is_copied_to_every_partition(make_shop) -> None:
    shop = await make_shop()
    clicks, target = shop.settings.clicks_topic, "by-user"
    await create_topics(shop.settings.connection, {target: TopicSpec(partitions=PARTITIONS)})
    lines = lines_of(simulation.simulate(100, 5, seed=5))
    value, headers = request_to_record(Request("erase", "u-1"))
    await shop.produce([*lines, RawLine(None, value, headers, "")])

    done = await repartition(shop.settings.connection, clicks, target, group="copy", by="user")
    assert (done.records, done.requests, done.no_events) == (100, 1, 0)
    copies = [each for each in await shop.on(target) if each.value == value]
    assert sorted(each.partition for each in copies) == [*range(PARTITIONS)]
    assert {each.headers for each in copies} == {headers}


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [("a", "a", "cannot be copied to itself"), ("clicks", "nowhere", "there is no topic nowhere")],
)
async def test_what_cannot_be_copied_is_one_sentence(
    make_shop, capsys, source: str, target: str, message: str
) -> None:
    shop = await make_shop()
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    arguments = ["repartition", "--from", source, "--to", target, *brokers]

    assert await asyncio.to_thread(main, arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def chunk_of(keys: list[bytes | None], partition: int) -> Chunk:
    return Chunk("clicks", partition, [RawRecord(n, 0, key, b"", ()) for n, key in enumerate(keys)])


def test_few_records_of_a_chunk_are_looked_at_and_none_while_partitions_are_unknown() -> None:
    placement, unknown = Placement(lambda _: 4), Placement(lambda _: 0)
    keys: list[bytes | None] = [b"user-%d" % n for n in range(1_000)]

    found = placement.look(chunk_of([key for key in keys if partition_of(key, 4) == 1], 1))
    assert found == {"placed": 4}
    assert placement.warning is None
    assert unknown.look(chunk_of(keys, 1)).total() == 0


def test_records_without_a_key_are_a_cause_for_a_warning() -> None:
    placement = Placement(lambda _: 4)
    placement.look(chunk_of([None], 2))
    assert placement.seen == {"no_key": 1}
    assert placement.warning is not None


def test_an_erasure_is_no_cause_for_a_warning() -> None:
    placement = Placement(lambda _: 4)
    value, headers = request_to_record(Request("erase", "u-1"))
    found = placement.look(Chunk("clicks", 2, [RawRecord(0, 0, None, value, headers)]))
    assert found.total() == 0
    assert placement.warning is None
