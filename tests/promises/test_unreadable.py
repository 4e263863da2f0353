"""Promise 8 for what a client cannot even read: it gets a reason and a place, and stops nobody."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from clickpath import simulation
from clickpath.events import Click
from stream.placement import partition_of
from stream.process import WorkerProcess
from tests.kafka.marks import in_every_delivery, on_both_brokers
from tests.promises.relay import relay
from tests.promises.shop import PARTITIONS, lines_of
from tests.promises.test_dead_letters import run_command
from tests.stream.raw_batches import CODECS, NAMES, Rec, batch, send

pytestmark = [pytest.mark.broker, pytest.mark.slow]

BAD_NAME = b"tr\xffce"
A_YEAR_S = str(365 * 86_400)


def clicks_of_partition_0(count: int, seed: int) -> list[Click]:
    """Clicks that a producer would put there, so that what is sent again comes there too."""
    clicks = simulation.simulate(50 * count, 4 * count, seed=seed)
    here = (each for each in clicks if partition_of(each.user_id.encode(), PARTITIONS) == 0)
    return list(islice(here, count))


def recs(clicks) -> list[Rec]:  # type: ignore[no-untyped-def]
    return [Rec(line.key, line.value) for line in lines_of(clicks)]


async def sent(shop, raw: bytes, records: int) -> None:  # type: ignore[no-untyped-def]
    settings = shop.settings
    assert await send(settings.bootstrap_servers, settings.clicks_topic, 0, raw) == "NoError"
    shop.produced += records


async def letters_of(shop) -> list[dict[str, bytes]]:  # type: ignore[no-untyped-def]
    found = [
        {**dict(each.headers), "": each.value}
        for each in await shop.on(shop.settings.dead_letter_topic)
    ]
    return sorted(found, key=lambda each: int(each["clickpath-origin-offset"]))


@in_every_delivery
async def test_a_record_whose_header_has_no_text_for_a_name_is_a_dead_letter_of_its_own(
    make_shop, running, oracle, to_lines, delivery, monkeypatch
) -> None:
    shop = await make_shop(lateness_s=A_YEAR_S, pending_limit="100000", delivery=delivery)
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    clicks = clicks_of_partition_0(60, seed=41)
    expected = await oracle(shop, to_lines(clicks))
    worker = await running(shop)

    # The bad one in the middle of a batch, plain and compressed, and alone in one.
    records = recs(clicks)
    for each in (10, 30, 45):
        records[each] = records[each]._replace(headers=((BAD_NAME, b"1"), (b"other", None)))
    for codec, (begin, end) in enumerate([(0, 20), (20, 40), (40, 45), (45, 46), (46, 60)]):
        await sent(shop, batch(records[begin:end], codec=codec), end - begin)
    await shop.handled(worker)

    letters = await letters_of(shop)
    assert [int(each["clickpath-origin-offset"]) for each in letters] == [10, 30, 45]
    assert {each["clickpath-reason"] for each in letters} == {b"header_not_utf8"}
    assert [each[""] for each in letters] == [records[n].value for n in (10, 30, 45)]
    assert all(each["tr\\xffce"] == b"1" and each["other"] is None for each in letters)
    assert r"'tr\\xffce' is no UTF-8 text" in letters[0]["clickpath-error"].decode()

    # With the name as text they are events like any other.
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    assert await run_command("dlq", "redrive", *brokers) == 0
    shop.produced += 3
    await shop.handled(worker)
    assert await worker.stop() == 0
    assert len(await shop.on(shop.settings.dead_letter_topic)) == 3
    assert await shop.state_hash() == expected.state_hash


BAD = [Rec(b"user", b"no event. " * 30)] * 3


def bad_batches() -> dict[str, tuple[bytes, str]]:
    """By name, batches of three records that are wrong, with the reason."""
    cases = {
        "checksum": (batch(BAD, crc=7), "bad_checksum"),
        "more records": (batch(BAD, count=9), "bad_batch"),
        "fewer records": (batch(BAD, count=2), "bad_batch"),
        "minus one record": (batch(BAD, count=-1), "bad_batch"),
        "too short": (batch(BAD, broken=lambda body: body[:-4]), "bad_batch"),
        "a size of nowhere": (
            batch(BAD, broken=lambda body: body[:5] + b"\xff\xff\xff\x7f" + body[9:]),
            "bad_batch",
        ),
    }
    for codec in CODECS:
        if codec:
            garbage = batch(BAD, codec=codec, broken=lambda body: b"\x99" * len(body))
            cut = batch(BAD, codec=codec, broken=lambda body: body[:-6])
            cases[f"{NAMES[codec]}, garbage"] = (garbage, "bad_compression")
            cases[f"{NAMES[codec]}, cut"] = (cut, "bad_compression")
    return cases


async def test_a_batch_that_cannot_be_read_is_one_dead_letter_with_its_bytes(
    make_shop, running, oracle, to_lines
) -> None:
    shop = await make_shop()
    cases = bad_batches()
    clicks = clicks_of_partition_0(5 * (len(cases) + 1), seed=43)
    expected = await oracle(shop, to_lines(clicks))
    worker = await running(shop)

    await sent(shop, batch(recs(clicks[:5])), 5)
    for number, (raw, _) in enumerate(cases.values(), start=1):
        await sent(shop, raw, 3)
        await sent(shop, batch(recs(clicks[5 * number : 5 * number + 5])), 5)
    await shop.handled(worker)
    counted = await worker.samples()
    assert await worker.stop() == 0

    letters = await letters_of(shop)
    reasons = [code for _, code in cases.values()]
    assert [each["clickpath-reason"].decode() for each in letters] == reasons
    for number, (letter, (raw, code)) in enumerate(zip(letters, cases.values(), strict=True)):
        first = 5 + 8 * number
        assert letter["clickpath-origin-offset"] == b"%d" % first
        assert letter["clickpath-origin-last-offset"] == b"%d" % (first + 2)
        assert f"[0], offsets {first} to {first + 2}: " in letter["clickpath-error"].decode()
        # The broker writes the base offset and the leader's epoch over those that were sent.
        kept = b"" if code == "bad_compression" else raw[16:]
        assert letter[""][16:] == kept, (
            "compressed bytes may hold anything, and stay where they are"
        )
        assert f"offsets {first} to {first + 2}: " in shop.log()
    for code, count in Counter(reasons).items():
        assert counted["dead_letters_total", code] == count
    assert await shop.state_hash() == expected.state_hash


@pytest.mark.kafka
@pytest.mark.parametrize("broker_kind", ["apache-kafka"], indirect=True)
async def test_apache_kafka_takes_no_batch_that_cannot_be_read(make_shop) -> None:
    shop = await make_shop()
    topic, servers = shop.settings.clicks_topic, shop.settings.bootstrap_servers
    answers = {name: await send(servers, topic, 0, raw) for name, (raw, _) in bad_batches().items()}
    assert answers.pop("checksum") == "CorruptRecordException"
    # aiokafka has no name for INVALID_RECORD.
    assert set(answers.values()) == {"UnknownError"}


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    [line] = [
        each
        for each in Path(f"/proc/{pid}/status").read_text().splitlines()
        if each.startswith("VmHWM:")
    ]
    return int(line.split()[1]) << 10


@on_both_brokers
async def test_a_batch_that_unpacks_into_too_much_is_a_dead_letter_and_is_never_unpacked(
    make_shop, running, oracle, to_lines
) -> None:
    shop = await make_shop(unpacked_mb="8")
    clicks = clicks_of_partition_0(40, seed=47)
    expected = await oracle(shop, to_lines(clicks))
    worker = await running(shop)
    await sent(shop, batch(recs(clicks[:10])), 10)
    await shop.handled(worker)
    before = peak_bytes(worker.pid)

    bombs = [batch([Rec(b"user", bytes(200 << 20))], codec=each) for each in (1, 3, 4)]
    assert all(len(each) < 1_000_000 for each in bombs)
    for number, bomb in enumerate(bombs, start=1):
        await sent(shop, bomb, 1)
        await sent(shop, batch(recs(clicks[10 * number : 10 * number + 10]), codec=4), 10)
    await shop.handled(worker)
    grown = peak_bytes(worker.pid) - before
    assert await worker.stop() == 0

    letters = await letters_of(shop)
    assert [each["clickpath-reason"] for each in letters] == [b"bad_compression"] * 3
    for number, letter in enumerate(letters, start=1):
        told = letter["clickpath-error"].decode()
        assert f"offsets {11 * number - 1} to {11 * number - 1}: " in told
        assert "the batch does not unpack into 8388608 bytes (CLICKPATH_UNPACKED_MB)" in told
    assert await shop.state_hash() == expected.state_hash
    assert grown < 100 << 20


class Link:
    """Exchanges a word in answers, as often as it is told to."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.changed = 0

    def __call__(self, answer: bytes) -> bytes:
        if self.left and b"sword-7f" in answer:
            self.left -= 1
            self.changed += 1
            return answer.replace(b"sword-7f", b"swore-7f")
        return answer


@on_both_brokers
async def test_what_a_link_changed_on_the_way_is_fetched_again(make_shop, tmp_path, oracle) -> None:
    shop = await make_shop()
    clicks = clicks_of_partition_0(40, seed=44)
    clicks[20] = replace(clicks[20], event_id="sword-7f")
    expected = await oracle(shop, lines_of(clicks))
    link = Link(1)
    async with relay(shop.settings.bootstrap_servers, link) as address:
        worker = WorkerProcess(address, tmp_path / "worker.log", shop.environ)
        await worker.start()
        try:
            await worker.wait_ready(120)
            await sent(shop, batch(recs(clicks)), 40)
            await shop.handled(worker)
            assert await worker.stop() == 0
        finally:
            await worker.kill()

    assert link.changed == 1
    assert await letters_of(shop) == []
    assert await shop.state_hash() == expected.state_hash


@on_both_brokers
async def test_a_copy_that_is_bad_for_good_is_a_dead_letter_and_redriven_from_a_sound_one(
    make_shop, running, oracle, tmp_path, monkeypatch
) -> None:
    shop = await make_shop(lateness_s=A_YEAR_S, pending_limit="100000")
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    clicks = clicks_of_partition_0(60, seed=45)
    clicks[25] = replace(clicks[25], event_id="sword-7f")
    expected = await oracle(shop, lines_of(clicks))
    link = Link(1_000_000)
    async with relay(shop.settings.bootstrap_servers, link) as address:
        worker = WorkerProcess(address, tmp_path / "worker.log", shop.environ)
        await worker.start()
        try:
            await worker.wait_ready(120)
            for begin in (0, 20, 40):
                await sent(shop, batch(recs(clicks[begin : begin + 20])), 20)
            await shop.handled(worker)
            assert await worker.stop() == 0
        finally:
            await worker.kill()

    [letter] = await letters_of(shop)
    assert letter["clickpath-reason"] == b"bad_checksum"
    places = [letter[f"clickpath-origin-{each}offset"] for each in ("", "last-")]
    assert places == [b"20", b"39"]
    assert b"swore-7f" in letter[""]

    # Past the bad link the batch is sound: its events are sent one by one.
    file = tmp_path / "letters.jsonl"
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers]
    assert await run_command("dlq", "list", *brokers, "--out", str(file)) == 0
    assert json.loads(file.read_text())["origin"]["last_offset"] == 39
    assert await run_command("dlq", "redrive", str(file), *brokers) == 0
    shop.produced += 20
    worker = await running(shop)
    await shop.handled(worker)
    assert await worker.stop() == 0
    assert await shop.state_hash() == expected.state_hash


async def test_a_compression_without_its_library_stops_the_worker_with_what_is_missing(
    make_shop, repository, tmp_path
) -> None:
    shop = await make_shop()
    await sent(shop, batch(BAD, codec=4), 3)
    # As on a machine where cramjam was not installed.
    (tmp_path / "cramjam.py").write_text("raise ImportError('no cramjam')")
    worker = WorkerProcess(
        shop.settings.bootstrap_servers,
        tmp_path / "worker.log",
        {**shop.environ, "PYTHONPATH": f"{tmp_path}:{repository}"},
    )
    await worker.start()
    assert await asyncio.wait_for(worker.wait(), 120) == 1
    last = worker.log_tail(1)
    assert "clicks[0] has compressed records from offset 0 on" in last
    assert "zstd" in last
    assert "pip install 'clickpath[worker]'" in last
    assert await shop.committed() == 0
    assert await letters_of(shop) == []
