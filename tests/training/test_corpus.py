"""Corpora: the same clicks from every kind of file, in their order of arrival."""

from collections import Counter
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickpath.cli import main
from clickpath.errors import UsageError
from clickpath.events import Click, Item
from clickpath.simulation import simulate
from clickpath.simulation.faults import shuffled_within
from clickpath.window import Window
from clickpath.wire import click_to_json
from training.build import Recipe, build
from training.corpus import CORPUS_FORMATS, Corpus, Simulated, corpus_at
from training.dataset import Dataset
from training.examples import PARTS, Entry, entry_of

ITEM = pa.struct(
    [
        ("item_id", pa.string()),
        ("category", pa.string()),
        ("price_cents", pa.int64()),
        ("quantity", pa.int64()),
    ]
)
COLUMNS: dict[str, Any] = {
    "event_id": pa.string(),
    "user_id": pa.string(),
    "ts_ms": pa.int64(),
    "type": pa.string(),
    "items": pa.list_(ITEM),
    "value_cents": pa.int64(),
}


def row(click: Click) -> dict[str, Any]:
    items = [
        {
            "item_id": item.item_id,
            "category": item.category,
            "price_cents": item.price_cents,
            "quantity": item.quantity,
        }
        for item in click.items
    ]
    return {
        "event_id": click.event_id,
        "user_id": click.user_id,
        "ts_ms": click.ts_ms,
        "type": click.type_name,
        "items": items,
        "value_cents": click.value_cents,
    }


def write(path: Path, rows: list[dict[str, Any]], columns: dict[str, Any] = COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(columns.items()))), path)
    return path


def archive(root: Path, clicks: list[Click], buckets: int = 4) -> Path:
    """The clicks as the worker's archive has them: by day of the event, then by user."""
    columns = {**COLUMNS, "received_ms": pa.int64(), "topic": pa.string()}
    columns |= {"partition": pa.int32(), "offset": pa.int64()}

    def folder(numbered: tuple[int, Click]) -> str:
        _, click = numbered
        day = datetime.fromtimestamp(click.ts_ms / 1000, UTC).date()
        return f"clicks/day={day}/bucket={int(click.user_id[-3:]) % buckets}"

    for where, some in groupby(sorted(enumerate(clicks), key=folder), key=folder):
        origin = {"received_ms": 0, "topic": "clicks", "partition": 0}
        rows = [{**row(click), **origin, "offset": offset} for offset, click in some]
        write(root / where / f"clicks-0-{rows[0]['offset']:020d}.parquet", rows, columns)
    (root / "_archive").mkdir()
    (root / "_archive" / "archive.json").write_text('{"v": 1, "buckets": 4}')
    write(root / "_archive" / "half-written.parquet", [row(clicks[0])])
    return root


def entries(corpus: Corpus) -> list[Entry]:
    refused = Counter[str]()
    found = list(corpus.entries(refused))
    assert not refused
    return found


def dataset(corpus: Corpus, folder: Path) -> Dataset:
    return build(corpus, folder, Recipe(), lambda _: None)


def paths(of: Dataset) -> list[set[bytes]]:
    return [
        {path.tobytes() for batch in of.part(name).batches(1) for path in batch.paths}
        for name in PARTS
    ]


def test_a_parquet_file_is_the_log_it_was_made_of(tmp_path: Path) -> None:
    clicks = list(simulate(500, 20, seed=1))
    log = tmp_path / "clicks.jsonl"
    log.write_bytes(b"".join(click_to_json(click) + b"\n" for click in clicks))
    table = write(tmp_path / "clicks.parquet", [row(click) for click in clicks])
    expected = [entry_of(click, place) for place, click in enumerate(clicks)]
    assert entries(corpus_at(str(log), "clickpath")) == expected
    assert entries(corpus_at(str(table), "parquet")) == expected


def test_only_four_columns_are_needed_and_others_are_not_looked_at(tmp_path: Path) -> None:
    few = {**dict(list(COLUMNS.items())[:4]), "comment": pa.string()}
    rows = [{"event_id": "e", "user_id": "u", "ts_ms": 5, "type": "search", "comment": "x"}]
    bare = entries(corpus_at(str(write(tmp_path / "a.parquet", rows, few)), "parquet"))
    assert bare == [entry_of(Click("e", "u", 5, "search", "search"))]
    del few["user_id"]
    missing = corpus_at(str(write(tmp_path / "b.parquet", rows, few)), "parquet")
    with pytest.raises(UsageError, match=r"b\.parquet has no column user_id"):
        entries(missing)


def test_an_address_that_nobody_knows_is_one_sentence() -> None:
    for format_name in ("parquet", "archive"):
        with pytest.raises(UsageError, match=r"'gopher://shop/archive' cannot be read: Protocol"):
            corpus_at("gopher://shop/archive", format_name)


def test_a_row_that_is_no_click_is_refused_with_its_reason(tmp_path: Path) -> None:
    good = row(Click("e", "u", 5, "search", "search", (Item("i"),)))
    rows = [good, {**good, "user_id": None}, {**good, "ts_ms": -1}, {**good, "value_cents": -1}]
    refused = Counter[str]()
    corpus = corpus_at(str(write(tmp_path / "a.parquet", rows)), "parquet")
    assert len(list(corpus.entries(refused))) == 1
    assert refused == {"missing_field": 1, "bad_timestamp": 1, "negative_price": 1}


def test_an_archive_is_replayed_in_the_order_of_the_topic_and_no_row_is_refused(
    tmp_path: Path,
) -> None:
    lateness_ms = Window().lateness_ms
    clicks = list(shuffled_within(simulate(4_000, 40, seed=1), lateness_ms, seed=1))
    log = tmp_path / "clicks.jsonl"
    log.write_bytes(b"".join(click_to_json(click) + b"\n" for click in clicks))
    seen = dataset(corpus_at(str(log), "clickpath"), tmp_path / "a")
    root = archive(tmp_path / "root", clicks)
    archived = dataset(corpus_at(str(root), "archive"), tmp_path / "b")
    assert archived.manifest.clicks.kept == archived.manifest.clicks.read == 4_000
    assert paths(archived) == paths(seen)
    assert len(archived.manifest.sources) == len(list((root / "clicks").rglob("*.parquet"))) > 4
    assert archived.manifest.sources[0].name.startswith("day=")
    of_clicks = dataset(corpus_at(str(root / "clicks"), "parquet"), tmp_path / "c")
    assert paths(of_clicks) == paths(seen)


def test_a_corpus_may_lie_at_any_address_of_fsspec(tmp_path: Path) -> None:
    write(tmp_path / "clicks.parquet", [row(click) for click in simulate(50, 5, seed=1)])
    here = entries(corpus_at(str(tmp_path), "parquet"))
    assert entries(corpus_at(f"file://{tmp_path}", "parquet")) == here
    assert len(here) == 50


def test_a_wrong_address_or_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no corpus at nowhere"):
        corpus_at("nowhere", "clickpath")
    with pytest.raises(UsageError, match="'runes' is no format; there are clickpath, "):
        corpus_at(str(tmp_path), "runes")
    with pytest.raises(UsageError, match=r"there is no corpus at .*nowhere"):
        entries(corpus_at(str(tmp_path / "nowhere"), "parquet"))
    with pytest.raises(UsageError, match="there is no Parquet file at"):
        entries(corpus_at(str(tmp_path), "parquet"))
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match=r"a\.parquet cannot be read as Parquet"):
        entries(corpus_at(str(tmp_path), "parquet"))


def test_any_log_but_an_archive_can_be_cleaned(tmp_path: Path) -> None:
    clicks = [*simulate(2_000, 40, seed=1), Click("old", "u", 5, "search", "search")]
    log = tmp_path / "clicks.jsonl"
    log.write_bytes(b"".join(click_to_json(click) + b"\n" for click in clicks))
    table = write(tmp_path / "clicks.parquet", [row(click) for click in clicks])
    for corpus in (
        corpus_at(str(log), "clickpath", clean=True),
        corpus_at(str(table), "parquet", clean=True),
    ):
        manifest = dataset(corpus, tmp_path / "set").manifest
        assert manifest.clicks.dropped["impossible_time"] == 1
        assert manifest.cleaning is not None
    with pytest.raises(UsageError, match="an archive is not cleaned"):
        corpus_at(str(tmp_path), "archive", clean=True)


def test_the_command_can_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--corpus", str(tmp_path), "--format", "archive", "--out", str(tmp_path / "run")]
    assert main(["train", *arguments, "--clean"]) == 2
    assert "an archive is not cleaned" in capsys.readouterr().err


def test_only_public_logs_are_foreign(tmp_path: Path) -> None:
    foreign = {name for name in CORPUS_FORMATS if corpus_at(str(tmp_path), name).foreign}
    assert foreign == {"taobao", "diginetica_raw", "diginetica_sessions"}
    assert not Simulated(1, 1, 1).foreign


def test_a_line_of_a_public_log_is_refused_for_a_missing_value_or_as_unreadable(
    tmp_path: Path,
) -> None:
    log = tmp_path / "UserBehavior.csv"
    log.write_text("1,2,3,pv,1500000000\n1,,3,pv,1500000000\n1,2,3,pv,\n1,2,3,hum,1500000000\nno\n")
    refused = Counter[str]()
    assert len(list(corpus_at(str(log), "taobao").entries(refused))) == 1
    assert refused == {"missing_value": 2, "unreadable": 2}


@pytest.mark.data
def test_a_public_log_is_cleaned_with_counted_reasons(real_data: Path, tmp_path: Path) -> None:
    taobao = corpus_at(str(real_data / "taobao" / "UserBehavior.csv.gz"), "taobao")
    clicks = dataset(taobao, tmp_path).manifest.clicks
    assert clicks.read == 96_168
    assert clicks.kept == clicks.read - sum(clicks.dropped.values())
    assert clicks.dropped.get("impossible_time", 0) < 100
    assert "late" not in clicks.dropped


@pytest.mark.data
def test_views_and_purchases_become_paths_with_both(real_data: Path, tmp_path: Path) -> None:
    made = dataset(corpus_at(str(real_data / "diginetica_raw"), "diginetica_raw"), tmp_path)
    assert made.manifest.clicks.users == 2_986
    assert made.part("train").has("purchase")
    assert len(made.manifest.sources) == 3
