"""Promise 8: wrong input gets a reason and a place, and can be re-driven."""

import asyncio
import json
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer

from clickpath import simulation
from clickpath.cli import main
from clickpath.logs import RawLine
from clickpath.simulation.faults import with_broken
from clickpath.wire import click_to_json
from tests.kafka.marks import on_both_brokers

pytestmark = [pytest.mark.broker, pytest.mark.slow, on_both_brokers]

#: So that a repair that comes after everything else is still in time.
A_YEAR_S = str(365 * 86_400)


async def test_broken_events_get_their_reasons_and_repaired_ones_end_in_the_clean_state(
    make_shop, running, oracle, to_lines, prove_events, tmp_path, monkeypatch
) -> None:
    shop = await make_shop(lateness_s=A_YEAR_S, pending_limit="100000")
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    clicks = list(simulation.simulate(prove_events, prove_events // 20, seed=31))
    sent = list(with_broken([click_to_json(click) for click in clicks], 0.01, 31))
    lines = [
        RawLine(click.user_id.encode(), each.value, (), "")
        for click, each in zip(clicks, sent, strict=True)
    ]
    originals = {n: each for n, each in enumerate(sent) if each.code is not None}
    clean = await oracle(shop, to_lines(clicks))

    worker = await running(shop)
    await shop.produce(lines)
    await shop.handled(worker)

    letters = await shop.on(shop.settings.dead_letter_topic)
    reasons = Counter(dict(each.headers)["clickpath-reason"].decode() for each in letters)
    assert reasons == Counter(each.code for each in originals.values())

    # Someone mends each letter by the command's own file, and sends it again.
    file = tmp_path / "letters.jsonl"
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    assert await run_command("dlq", "list", *brokers, "--out", str(file)) == 0
    repairs: dict[tuple[bytes, bytes], list[bytes]] = {}
    for (click, each), line in zip(zip(clicks, sent, strict=True), lines, strict=True):
        if each.code is not None:
            repairs.setdefault((click.user_id.encode(), line.value), []).append(each.original)
    mended = []
    for row in file.read_text().splitlines():
        letter = json.loads(row)
        value = letter["value"]
        raw = bytes.fromhex(value["hex"]) if isinstance(value, dict) else value.encode()
        letter["value"] = repairs[(letter["key"].encode(), raw)].pop().decode()
        mended.append(json.dumps(letter))
    assert len(mended) == len(originals)
    file.write_text("\n".join(mended) + "\n")
    assert await run_command("dlq", "redrive", str(file), *brokers) == 0
    shop.produced += len(mended)
    await shop.handled(worker)
    assert await worker.stop() == 0

    assert len(await shop.on(shop.settings.dead_letter_topic)) == len(originals)
    assert len(await shop.on(shop.settings.late_topic)) == 0
    assert await shop.state_hash() == clean.state_hash


async def test_records_of_any_size_and_with_any_headers_stop_nobody(make_shop, running) -> None:
    shop = await make_shop()
    worker = await running(shop)

    # Compressed, a record of any size is below a broker's limit.
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.settings.bootstrap_servers,
        compression_type="gzip",
        max_request_size=8 << 20,
    )
    await producer.start()
    topic = shop.settings.clicks_topic
    await producer.send(topic, b" " * (6 << 20), key=b"user")
    await producer.send(topic, b"no event", key=b"user", headers=[("trace", None)])
    await producer.send(topic, b"no event either")
    await producer.stop()
    shop.produced += 3
    await shop.handled(worker)

    assert await worker.stop() == 0
    letters = await shop.on(shop.settings.dead_letter_topic)
    reasons = Counter(dict(each.headers)["clickpath-reason"].decode() for each in letters)
    assert reasons == {"too_large": 1, "not_json": 2}


async def run_command(*arguments: str) -> int:
    """Runs a command as its own loop, as the command line does."""
    return await asyncio.to_thread(main, arguments)
