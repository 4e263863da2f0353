"""What goes into the archive: the worker's own answer to what is accepted, as typed rows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgpack
import polars as pl
import pyarrow as pa
import pytest

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.erasure import Request, mark_of, request_to_record
from clickpath.events import Click, Item
from clickpath.logs import RawLine
from clickpath.simulation.faults import shuffled_within, with_broken, with_duplicates
from clickpath.vocabulary import canonical_action
from clickpath.window import Window
from clickpath.wire import click_to_json
from clickpath.wire.parse import Headers
from clickpath.wire.records import decision_from_json
from clickpath.wire.state import UserState, dump_path
from stream.archive.columns import CLICKS, DECISIONS, Row, batch_of
from stream.archive.place import Place
from stream.archive.reader import Last, dump_last, load_last, read_clicks, read_decisions
from stream.archive.shelf import Rows, Shelf, bucket_of
from stream.batch.records import Chunk, OutputRecord, RawRecord
from stream.cause import cause_header
from stream.replay import Replay, hash_of_users
from stream.settings import Settings
from stream.wiring import make_handler

NOW_MS = 1_800_000_000_000
SETTINGS = Settings(model="none")


def chunk_of(values: Iterable[bytes | None], topic: str = "clicks", at: int = 0) -> Chunk:
    records = [
        RawRecord(offset, NOW_MS + offset, None, value, ())
        for offset, value in enumerate(values, start=at)
    ]
    return Chunk(topic, 0, records)


def read(
    values: Iterable[bytes], window: Window | None = None
) -> tuple[list[Row], dict[bytes, UserState], Counter[str]]:
    counts = Counter[str]()
    rows, users = read_clicks(
        chunk_of(values),
        {},
        window=window or SETTINGS.window,
        max_future_ms=86_400_000,
        clock=lambda: 0,
        counts=counts,
    )
    return rows, users, counts


def replayed(lines: Iterable[bytes]) -> tuple[Replay, list[OutputRecord]]:
    outputs: list[OutputRecord] = []
    handler = make_handler(SETTINGS, None, Encoder(SETTINGS.window))
    run = Replay(handler, lambda: NOW_MS, outputs.append)
    asyncio.run(run.run(RawLine(None, line, (), "") for line in lines))
    return run, outputs


def disorderly() -> list[bytes]:
    """Clicks with copies, disorder beyond the lateness, and broken ones."""
    clicks = list(simulation.simulate(4_000, 60, seed=5))
    mixed = with_duplicates(shuffled_within(clicks, 2 * SETTINGS.window.lateness_ms, 5), 0.1, 5)
    return [each.value for each in with_broken(map(click_to_json, mixed), 0.02, 5)]


def clicks_of(rows: Iterable[dict[str, object]]) -> Iterator[Click]:
    for row in rows:
        items = tuple(Item(**item) for item in row["items"])  # type: ignore[attr-defined]
        yield Click(
            event_id=row["event_id"],  # type: ignore[arg-type]
            user_id=row["user_id"],  # type: ignore[arg-type]
            ts_ms=row["ts_ms"],  # type: ignore[arg-type]
            action=canonical_action(row["type"]),  # type: ignore[arg-type]
            type_name=row["type"],  # type: ignore[arg-type]
            items=items,
            value_cents=row["value_cents"],  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of disorderly clicks and of the decisions because of them."""
    root = tmp_path_factory.mktemp("archive")
    lines = disorderly()
    rows, _, _ = read(lines)
    _, outputs = replayed(lines)
    sent = [each.value for each in outputs if each.topic == "decisions"]
    decisions, _ = read_decisions(chunk_of(sent, "decisions"), {}, Counter())
    for kind, schema, found in (("clicks", CLICKS, rows), ("decisions", DECISIONS, decisions)):
        shelf = Shelf(Place(str(root)), kind, kind, 0, buckets=4, clock=lambda: NOW_MS)
        shelf.open()
        table = pa.Table.from_batches([batch_of(found, schema)])
        shelf.publish(Rows(table, 0, found[-1][-1] + 1))
    return root


def test_accepted_is_what_the_worker_accepts() -> None:
    lines = disorderly()

    rows, users, counts = read(lines)

    run, _ = replayed(lines)
    assert run.tally.accepted == len(rows) == counts["accepted"]
    assert run.tally.duplicates == counts["duplicates"] > 0
    assert run.tally.late == counts["late"] > 0
    assert run.tally.dead_letters.total() == counts["dead_letters"] > 0
    assert hash_of_users(users.items()) == run.state_hash()


def test_replaying_the_archive_gives_the_worker_state(archive: Path) -> None:
    rows = pl.read_parquet(archive / "clicks").sort("topic", "partition", "offset").to_dicts()
    lines = [click_to_json(click) for click in clicks_of(rows)]

    run, _ = replayed(lines)
    seen, _ = replayed(disorderly())

    assert run.tally.accepted == len(lines) == seen.tally.accepted
    assert run.state_hash() == seen.state_hash()


DUCKDB = """
import duckdb, json
counts = [
    duckdb.sql(f"select count(*) from '{kind}/**/*.parquet'").fetchall()[0][0]
    for kind in ("clicks", "decisions")
]
purchases = duckdb.sql(
    "select day, sum(len(items)) from 'clicks/**/*.parquet'"
    " where type = 'purchase' and bucket = 1 group by day order by day"
).fetchall()
wrong = duckdb.sql(
    "select count(*) from 'clicks/**/*.parquet' where day <> make_timestamp(ts_ms * 1000)::date"
).fetchall()[0][0]
print(json.dumps([counts, [str(day) for day, _ in purchases], wrong]))
"""


def test_duckdb_and_polars_open_it_without_help(archive: Path) -> None:
    clicks, decisions = (pl.read_parquet(archive / kind) for kind in ("clicks", "decisions"))
    bought = clicks.filter((pl.col("type") == "purchase") & (pl.col("bucket") == 1))
    days = [str(day) for day in bought["day"].unique().sort()]

    # In a process of its own: at the end of a long one it complains about itself.
    done = subprocess.run(
        [sys.executable, "-c", DUCKDB], cwd=archive, capture_output=True, text=True, check=True
    )

    assert len(days) > 0
    assert json.loads(done.stdout) == [[clicks.height, decisions.height], days, 0]


def test_a_user_is_in_one_bucket(archive: Path) -> None:
    users = pl.read_parquet(archive / "clicks").select("user_id", "bucket").unique().rows()

    assert len(users) == 60
    assert dict(users) == {user: bucket_of(user, 4) for user, _ in users}


def test_a_decision_row_holds_the_record_and_its_fields(archive: Path) -> None:
    rows = pl.read_parquet(archive / "decisions").to_dicts()

    assert len(rows) > 50
    for row in rows:
        decision = decision_from_json(row["json"].encode(), SETTINGS.window)
        assert row["decision_id"] == decision.decision_id
        assert row["now_ms"] == decision.now_ms
        assert row["state"] == dump_path(decision.path)
        assert [(each["choice"], each["propensity"]) for each in row["action_set"]] == [
            *decision.action_set
        ]
        assert (row["kind"], row["reason"]) == (decision.kind, decision.reason)


def test_the_columns_of_a_click() -> None:
    item = {"item_id": "sku-1", "category": "shoes", "price_cents": 4999, "quantity": 2}
    event = {"event_id": "e-1", "type": "Product Added", "user_id": "u-1", "ts_ms": NOW_MS}
    rows, _, _ = read([json.dumps({**event, "items": [item, {"item_id": "x"}]}).encode()])

    [row] = batch_of(rows, CLICKS).to_pylist()

    assert row == {
        **event,
        "items": [item, {"item_id": "x", "category": None, "price_cents": None, "quantity": 1}],
        "value_cents": None,
        "received_ms": NOW_MS,
        "topic": "clicks",
        "partition": 0,
        "offset": 0,
    }


def test_the_present_is_that_of_the_record() -> None:
    event = {"event_id": "e-1", "type": "view_item", "user_id": "u-1"}
    day_ms = 86_400_000
    in_time = json.dumps({**event, "ts_ms": NOW_MS + day_ms}).encode()
    too_early = json.dumps({**event, "ts_ms": NOW_MS + day_ms + 1}).encode()

    assert read([in_time])[2] == {"accepted": 1}
    assert read([too_early])[2] == {"dead_letters": 1}


def test_a_repeated_decision_is_archived_once() -> None:
    _, outputs = replayed(disorderly())
    sent = [each.value for each in outputs if each.topic == "decisions"]
    # A worker that was killed decides again from its last commit on.
    counts = Counter[str]()

    rows, users = read_decisions(chunk_of([*sent[:100], *sent[40:]], "decisions"), {}, counts)
    again, _ = read_decisions(chunk_of(sent, "decisions", at=10_000), users, counts)

    assert [row[0] for row in rows] == [json.loads(each or b"")["decision_id"] for each in sent]
    assert again == []
    assert counts == {"decisions": len(sent), "repeated": 60 + len(sent)}


def line_of(value: bytes, headers: Headers = ()) -> RawLine:
    return RawLine(None, value, headers, "")


async def decisions_by_record(lines: Iterable[RawLine]) -> list[list[OutputRecord]]:
    """What lies on the topic of decisions because of each record."""
    handler = make_handler(SETTINGS, None, Encoder(SETTINGS.window))
    users: dict[bytes, UserState] = {}
    sent = []
    for offset, line in enumerate(lines):
        record = RawRecord(offset, NOW_MS, line.key, line.value, line.headers)
        outcome = await handler.handle(Chunk("clicks", 3, [record]), users, NOW_MS)
        sent.append([each for each in outcome.outputs if each.topic == "decisions"])
        for key, state in outcome.changes().items():
            if state is None:
                del users[key]
            else:
                users[key] = state
    return sent


def archived(sent: Sequence[OutputRecord], chunk_size: int) -> list[str]:
    """The decisions in the archive, in the order in which they came there."""
    states: dict[bytes, Last] = {}
    ids: list[str] = []
    records = [
        RawRecord(n, NOW_MS + n, each.key, each.value, each.headers) for n, each in enumerate(sent)
    ]
    for begin in range(0, len(records), chunk_size):
        chunk = Chunk("decisions", 3, records[begin : begin + chunk_size])
        rows, changed = read_decisions(chunk, states, Counter())
        ids += [row[0] for row in rows]
        for key, last in changed.items():
            if last is None:
                states.pop(key, None)
            else:
                states[key] = last
    return ids


@pytest.mark.parametrize("chunk_size", [1, 7, 1_000])
async def test_a_decision_around_an_erasure_is_archived_once_wherever_a_crash_repeats_it(
    chunk_size: int,
) -> None:
    event = {"type": "begin_checkout", "user_id": "u-1"}
    clicks = [
        line_of(json.dumps({**event, "event_id": f"e-{n}", "ts_ms": NOW_MS + n}).encode())
        for n in range(12)
    ]
    erase, forget = (
        line_of(*request_to_record(Request(step, "u-1"))) for step in ("erase", "forget")
    )
    # Who comes back does the same again, so that event times go back. Two who erase the user wait
    # neither for each other nor for a commit.
    lines = [*clicks[:6], erase, *clicks[:3], forget, erase, forget, *clicks, erase, *clicks]
    by_record = await decisions_by_record(lines)
    once = [
        json.loads(each.value)["decision_id"] for some in by_record for each in some if each.value
    ]
    assert len(once) > len(set(once)) == 11

    for killed in range(len(lines) + 1):
        for committed in range(max(0, killed - 30), killed):
            sent = [each for some in by_record[:killed] + by_record[committed:] for each in some]
            assert archived(sent, chunk_size) == once, (committed, killed)


def test_of_an_erased_user_the_archive_keeps_the_mark_and_no_id() -> None:
    request = line_of(*request_to_record(Request("erase", "user-4711")))
    [tombstone] = asyncio.run(decisions_by_record([request]))
    record = RawRecord(0, NOW_MS, tombstone[0].key, None, tombstone[0].headers)

    _, changed = read_decisions(Chunk("decisions", 3, [record]), {}, Counter())

    assert changed.pop(b"user-4711") is None
    [(key, last)] = changed.items()
    assert key == b"\xff%s:3" % mark_of("user-4711").encode()
    assert last is not None
    assert load_last(dump_last(last)) == last


def test_a_state_of_an_older_archive_is_read_and_decisions_of_older_workers_are_told_by_time() -> (
    None
):
    _, outputs = replayed(disorderly())
    sent = [each.value for each in outputs if each.topic == "decisions"]
    rows, users = read_decisions(chunk_of(sent, "decisions"), {}, Counter())
    older = {
        key: load_last(msgpack.packb((1, last.stamp, last.now_ms, last.event)))
        for key, last in users.items()
        if last is not None
    }
    assert older == users

    counts = Counter[str]()
    with_cause = [(cause_header(0, n),) for n in range(len(sent))]
    again = [
        RawRecord(10_000 + n, NOW_MS, None, value, headers)
        for n, (value, headers) in enumerate(zip(sent, with_cause, strict=True))
    ]
    assert read_decisions(Chunk("decisions", 0, again), older, counts)[0] == []
    assert counts == {"repeated": len(rows)}


def test_what_is_no_decision_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counter[str]()

    rows, _ = read_decisions(chunk_of([b"{}", None, b"\xff"], "decisions", at=7), {}, counts)

    assert rows == []
    assert counts == {"refused": 3}
    assert "decisions[0], offset 7: this is no decision record: decision_id" in caplog.text
