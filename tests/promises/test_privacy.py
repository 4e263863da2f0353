"""Privacy: canaries sent through everything are seen on no topic but the one they came on."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgpack
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from clickpath import simulation
from clickpath.cli import main
from clickpath.logs import RawLine
from clickpath.simulation import START_MS
from clickpath.wire import click_to_json
from serving.card import read_card
from serving.embedded import shipped_model
from stream.commands.state import users_on_changelog
from stream.connection import Connection
from stream.process import WorkerProcess
from stream.reading import StoredRecord, read_topic
from tests.kafka.marks import on_both_brokers
from tests.promises.shop import Shop, lines_of
from tests.promises.test_dead_letters import run_command
from tests.serving.conftest import twin_of

pytestmark = [pytest.mark.broker, pytest.mark.slow]

EMAIL, PHONE, CARD = "canary.bird@example.com", "+49 170 9876543", "4111 1111 1111 1111"
USER = "shopper-canary-4711"
CANARIES = {
    "e-mail": (EMAIL, "canary.bird"),
    "phone": (PHONE, PHONE.replace(" ", ""), "9876543"),
    "card": (CARD, CARD.replace(" ", "")),
}
JSON = (("content-type", b"application/json"),)
MSGPACK = (("content-type", b"application/msgpack"),)


def canonical(n: int, user: str, **fields: object) -> dict[str, object]:
    return {
        "event_id": f"e-{n}",
        "type": "add_to_cart",
        "user_id": user,
        "ts_ms": START_MS + n * 1000,
        "item_id": f"sku-{n}",
        "price_cents": 9900,
    } | fields


def events(user: str) -> list[RawLine]:
    """Canaries in every field, in every form, in good events and in broken ones."""
    iso = datetime.fromtimestamp(START_MS / 1000, UTC).isoformat()
    forms: list[tuple[object, tuple[tuple[str, bytes | None], ...]]] = []
    for n, text in enumerate((EMAIL, PHONE, CARD)):
        segment = {
            "type": "track",
            "event": text,
            "messageId": f"s-{n}",
            "userId": user,
            "timestamp": iso,
            "context": {"traits": {"email": EMAIL, "phone": PHONE}},
            "properties": {"product_id": text, "category": text, "query": text},
        }
        ga4 = {
            "client_id": user,
            "timestamp_micros": (START_MS + n) * 1000,
            "user_properties": {"mail": {"value": text}},
            "events": [{"name": "search", "params": {"search_term": text, "page": text}}],
        }
        good = canonical(n, user, category=text)
        cloud = {"specversion": "1.0", "id": f"c-{n}", "source": "/shop", "type": "click"}
        forms += [
            (good, ()),
            (canonical(10 + n, user, item_id=text, note=text), JSON),
            (canonical(20 + n, user, type=text), ()),
            (canonical(30 + n, user, event_id=text), ()),
            (canonical(40 + n, user, items=text), ()),
            (canonical(50 + n, user, ts_ms=text), (("trace", text.encode()),)),
            (canonical(60 + n, user, ts_ms=START_MS - 86_400_000, note=text), ()),
            (segment, ()),
            (segment | {"timestamp": text}, ()),
            (ga4, ()),
            (ga4 | {"events": [{"name": text, "params": {"items": text}}]}, ()),
            (cloud | {"data": canonical(70 + n, user, category=text)}, ()),
            (cloud | {"data": canonical(80 + n, user, price_cents=text)}, ()),
            (
                cloud
                | {
                    "data_base64": base64.b64encode(
                        json.dumps(canonical(90 + n, user, price_cents=text)).encode()
                    ).decode()
                },
                (("content-type", b"application/cloudevents+json"),),
            ),
        ]
    lines = [
        RawLine(user.encode(), json.dumps(each).encode(), headers, "") for each, headers in forms
    ]
    lines += [
        RawLine(user.encode(), msgpack.packb(canonical(100, user, category=EMAIL)), MSGPACK, ""),
        RawLine(user.encode(), msgpack.packb(canonical(101, user, quantity=PHONE)), MSGPACK, ""),
        RawLine(
            user.encode(),
            msgpack.packb(canonical(102, user, note="x" * 60 + CARD))[:-1],
            MSGPACK,
            "",
        ),
        RawLine(user.encode(), json.dumps(canonical(103, user, note=EMAIL)).encode()[:-1], (), ""),
        RawLine(user.encode(), json.dumps(canonical(104, user)).encode("utf-16"), (), ""),
        RawLine(EMAIL.encode(), b"no event", (("from", EMAIL.encode()),), ""),
        RawLine(user.encode(), json.dumps(canonical(105, EMAIL)).encode(), (), ""),
        RawLine(user.encode(), json.dumps(canonical(106, PHONE)).encode(), (), ""),
        # Too large even for a dead letter: it is cut, and the log says so.
        RawLine(
            user.encode(), json.dumps(canonical(107, user, note=EMAIL * 250_000)).encode(), (), ""
        ),
    ]
    return lines


@on_both_brokers
@pytest.mark.parametrize("with_key", [False, True], ids=["no-key", "key"])
async def test_canaries_are_seen_nowhere_but_on_the_topic_on_which_they_came(
    make_shop, running, collector, tmp_path, monkeypatch, capfd, with_key
) -> None:
    archive, key = tmp_path / "archive", tmp_path / "key"
    key.write_bytes(b"a key that is long enough\n")
    sealed = {"pseudonym_key_file": str(key)} if with_key else {}
    shop = await make_shop(
        archive=str(archive),
        archive_flush_s="1",
        session_timeout_s="3",
        log_level="DEBUG",
        log_format="json" if with_key else "text",
        store="rocksdb",
        store_dir=str(tmp_path / "states"),
        otlp_endpoint=collector.address,
        model_repository=str(tmp_path / "versions"),
        **sealed,
    )
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    canaries = [each for texts in CANARIES.values() for each in texts]
    user = USER if with_key else "shopper-2"
    canaries += [USER] if with_key else []

    worker = await running(shop)
    await try_a_twin(shop, worker, tmp_path / "twin")
    path = [replace(each, user_id=user) for each in simulation.simulate(600, 1, seed=1)]
    late = RawLine(user.encode(), json.dumps(canonical(0, user, note=EMAIL)).encode(), (), "")
    traced = [replace(line, headers=trace_of(n)) for n, line in enumerate(lines_of(path))]
    await produce_compressed(shop, [*events(user), *traced, late])
    await shop.handled(worker)
    async with asyncio.timeout(60):
        while not (await worker.samples()).get(("candidate", "pairs")):
            pass
    # It reports of the candidate when it stops, if it has not yet.
    seen = "".join([await page(worker.pages, path) for path in ("health", "ready", "metrics")])
    assert await worker.stop() == 0

    decisions = await shop.on(shop.settings.decisions_topic)
    assert len(decisions) > 3
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    decision_id = json.loads(decisions[-1].value or b"")["decision_id"]
    assert await run_command("why", decision_id, *brokers) == 0
    # Without a key it finds no scores here, and says so.
    assert await run_command("drift", *brokers) < 2 or not with_key
    assert await run_command("dlq", "list", *brokers) == 0
    assert await run_command("dlq", "redrive", "--dry-run", *brokers) == 1
    assert await run_command("dlq", "list", "--out", str(tmp_path / "letters"), *brokers) == 0
    assert await run_command("models", "status", *brokers) == 0
    assert await run_command("models", "rollback", *brokers) == 0
    seen += "".join(capfd.readouterr()) + (tmp_path / "letters").read_text() + shop.log()
    models = [each for each in await shop.on(shop.settings.models_topic) if each.value]
    assert shop.settings.models_topic in await topics(shop)
    records = [each for topic in await topics(shop) for each in await shop.on(topic)]
    seen += "".join(map(repr, records))
    seen += "".join(
        repr(base64.b64decode(json.loads(each.value or b"")["state"])) for each in decisions
    )
    states = [each for each in (tmp_path / "states").rglob("*") if each.is_file()]
    seen += "".join(repr(each.read_bytes()) for each in states)
    seen += "".join(map(repr, collector.bodies))
    files = list(archive.rglob("*.parquet"))
    seen += "".join(repr(pq.read_table(file).to_pylist()) for file in files)

    spots = [seen[max(0, at - 120) : at + 60] for each in canaries if (at := seen.find(each)) >= 0]
    assert spots == []
    letters = await shop.on(shop.settings.dead_letter_topic)
    assert len(letters) > 20
    assert len(await shop.on(shop.settings.late_topic)) > 0
    assert len(files) > 1
    reports = [json.loads(each.value)["evidence"] for each in models if b'"evidence"' in each.value]
    assert reports[-1]["pairs"] > 0
    assert len(models) > len(reports)
    assert "intervention" in {name for name, _ in collector.spans.values()}
    assert any(each.suffix in (".log", ".sst") and each.stat().st_size for each in states)
    assert 'clickpath_personal_fields_total{kind="email"}' in seen
    # The input still has them, so that this test would have seen them.
    clicks = "".join(map(repr, await shop.on(shop.settings.clicks_topic)))
    assert [each for each in (EMAIL, PHONE, CARD, user) if each not in clicks] == []
    # Whoever may see them can mend them.
    mended = tmp_path / "originals"
    originals = ["--out", str(mended), "--originals"]
    assert await run_command("dlq", "list", *originals, *brokers) == 0
    assert EMAIL in mended.read_text()


async def test_a_shop_whose_user_ids_are_e_mail_addresses_is_told_once_and_what_to_do(
    make_shop, running, tmp_path, monkeypatch, capsys
) -> None:
    shop = await make_shop(model="none", session_timeout_s="3")
    clicks = [
        replace(each, user_id=f"{each.user_id}@example.com")
        for each in simulation.simulate(200, 10, seed=1)
    ]
    worker = await running(shop)
    await shop.produce(lines_of(clicks[:100]))
    await shop.handled(worker)
    told = "100 of 100 records were refused as dead letters because the id of the user"
    assert told in await page(worker.pages, "ready")
    await shop.produce(lines_of(clicks[100:]))
    await shop.handled(worker)
    assert "200 of 200 records" in await page(worker.pages, "ready")
    assert await worker.stop() == 0
    assert shop.log().count("with CLICKPATH_PSEUDONYM_KEY_FILE set") == 1
    assert "@example.com" not in shop.log()

    # It does as it is told: nothing is lost.
    key = tmp_path / "key"
    key.write_bytes(b"a key that is long enough")
    sealed = Shop(
        shop.settings.bootstrap_servers,
        tmp_path,
        {**shop.environ, "CLICKPATH_PSEUDONYM_KEY_FILE": str(key)},
    )
    for name, value in sealed.environ.items():
        monkeypatch.setenv(name, value)
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    assert await run_command("dlq", "redrive", *brokers) == 0, capsys.readouterr().err
    worker = await running(sealed)
    sealed.produced = 400
    await sealed.handled(worker)
    assert "warning" not in await page(worker.pages, "ready")
    users = await users_on_changelog(sealed.settings)
    assert len(users) == len({each.user_id for each in clicks})
    assert sum(state.path.tip.events for state in users.values()) == len(clicks)
    assert await worker.stop() == 0


def test_produce_with_a_key_sends_pseudonyms_only(tmp_path, monkeypatch, embedded, capsys) -> None:
    clicks = list(simulation.simulate(300, 10, seed=1))
    file, key = tmp_path / "clicks.jsonl", tmp_path / "key"
    broken = json.dumps(canonical(1, USER, price_cents="x")).encode()
    file.write_bytes(b"\n".join([*map(click_to_json, clicks), broken]) + b"\n")
    key.write_bytes(b"a key that is long enough")
    monkeypatch.setenv("CLICKPATH_PSEUDONYM_KEY_FILE", str(key))
    monkeypatch.setenv("CLICKPATH_BOOTSTRAP_SERVERS", embedded)

    assert main(["topics", "create", "--json"]) == 0
    assert main(["produce", str(file), "--json"]) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["events"], told["refused"]) == (300, {"wrong_type": 1})
    assert main(["pseudonym", clicks[0].user_id]) == 0
    first = capsys.readouterr().out.strip()

    records = asyncio.run(on_topic(embedded, "clicks"))
    assert len(records) == 300
    ids = {click.user_id for click in clicks}
    assert not any(f'"{each}"' in repr(records) for each in ids)
    assert first.encode() in {record.key for record in records}


def trace_of(n: int) -> tuple[tuple[str, bytes], ...]:
    """A sampled trace, with canaries in what a producer may say beside it."""
    trace = f"00-{n + 1:032x}-00f067aa0ba902b7-01".encode()
    beside = f"shop={EMAIL if n % 2 else PHONE}".encode()
    return (("traceparent", trace), ("tracestate", beside), ("baggage", b"who=" + EMAIL.encode()))


async def produce_compressed(shop: Shop, lines: list[RawLine]) -> None:
    """Compressed, a record of any size is below a broker's limit."""
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.settings.bootstrap_servers,
        compression_type="gzip",
        max_request_size=16 << 20,
    )
    await producer.start()
    for line in lines:
        headers = list(line.headers)
        await producer.send(shop.settings.clicks_topic, line.value, key=line.key, headers=headers)
    await producer.stop()
    shop.produced += len(lines)


async def try_a_twin(shop: Shop, worker: WorkerProcess, folder: Path) -> None:
    """Puts a candidate beside the model, which from now on is told of on the models topic."""
    twin = twin_of(shipped_model(), folder)
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    assert await run_command("models", "add", str(twin), *brokers) == 0
    digest = read_card(twin).digest
    promote = ("models", "promote", digest, "--force", "--shadow-s", "86400")
    assert await run_command(*promote, *brokers) == 0
    async with asyncio.timeout(60):
        while ("model_share", digest) not in await worker.samples():
            pass


async def page(address: str, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/{path}") as response:
        return await response.text()


async def topics(shop: Shop) -> list[str]:
    """All topics of the shop but the one on which clicks come."""
    admin = AIOKafkaAdminClient(bootstrap_servers=shop.settings.bootstrap_servers)
    await admin.start()
    try:
        known = await admin.list_topics()
    finally:
        await admin.close()
    prefix = shop.settings.app_id if shop.settings.app_id != "clickpath" else ""
    own = {each for each in known if each.startswith(prefix) and not each.startswith("__")}
    assert shop.settings.topics.changelog in own
    return sorted(own - {shop.settings.clicks_topic})


async def on_topic(servers: str, topic: str) -> list[StoredRecord]:
    return [each async for each in read_topic(Connection(servers), topic)]
