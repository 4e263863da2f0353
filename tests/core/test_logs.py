import gzip
import json
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_TS_MS, Click, Item
from clickpath.logs import FORMATS, RawLine, read_log
from clickpath.window import EMPTY_PATH, PathState, Verdict, Window, push
from clickpath.wire import click_to_json, click_to_msgpack, parse
from clickpath.wire.payload import split_msgpack

CLICK = Click("e-1", "ada", 5, "login", "login")
OTHER = Click("e-2", "bob", 6, "view_item", "view_item", (Item("shoe"),))
VIEWS = b"""session_id;user_id;item_id;timeframe;eventdate
1;NA;10;9000;2016-05-09
1;NA;11;2000;2016-05-09
2;7;10;0;2016-05-10
"""
PURCHASES = b"""sessionId;userId;timeframe;eventdate;ordernumber;itemId
1;NA;86400500;2016-05-10;900;11
1;NA;86400500;2016-05-10;900;10
1;NA;86400500;2016-05-10;900;11
3;NA;5;2016-05-10;901;10
"""
CATEGORIES = b"itemId;categoryId\n10;77\n"


def clicks(path: Path, name: str) -> list[Click]:
    return [parse(line.value, line.headers, MAX_TS_MS) for line in read_log(path, name)]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def diginetica(folder: Path, views: bytes = VIEWS, purchases: bytes = PURCHASES) -> Path:
    write(folder / "train-item-views.csv", views)
    write(folder / "train-purchases.csv", purchases)
    write(folder / "product-categories.csv.gz", gzip.compress(CATEGORIES))
    return folder


# ----------------------------------------------------------------------------------- JSON, msgpack


def test_lines_pass_untouched_under_the_key_of_their_user(tmp_path: Path) -> None:
    good, broken = b' {"user_id":"ada", "ts_ms":5,"type":"login","event_id":"e"}', b"\xff{oops"
    file = write(tmp_path / "log.jsonl", good + b"\r\n\n  \n" + broken + b"\n" + good)
    assert list(read_log(file, "clickpath")) == [
        RawLine(b"ada", good, (), f"{file}:1"),
        RawLine(None, broken, (), f"{file}:4"),
        RawLine(b"ada", good, (), f"{file}:5"),
    ]


def test_a_compressed_file_reads_as_the_plain_one_whatever_its_name(tmp_path: Path) -> None:
    lines = click_to_json(CLICK) + b"\n" + click_to_json(OTHER) + b"\n"
    plain = write(tmp_path / "plain", lines)
    packed = write(tmp_path / "packed", gzip.compress(lines))
    assert clicks(plain, "clickpath") == clicks(packed, "clickpath") == [CLICK, OTHER]


def test_cloudevents_carry_the_header_of_structured_mode(tmp_path: Path) -> None:
    envelope = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    event = json.dumps(envelope | {"data": json.loads(click_to_json(CLICK))}).encode()
    file = write(tmp_path / "log", event)
    headers = (("content-type", b"application/cloudevents+json"),)
    assert list(read_log(file, "cloudevents")) == [RawLine(b"ada", event, headers, f"{file}:1")]


@pytest.mark.parametrize("name", ["segment", "ga4"])
def test_foreign_lines_are_keyed_by_their_user_too(name: str, tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden"
    source = {"segment": "segment_page", "ga4": "ga4_bigquery_row"}[name]
    line = json.dumps(json.loads((golden / f"{source}.json").read_text())).encode()
    expected = json.loads((golden / f"{source}.click.json").read_text())["user_id"].encode()
    file = write(tmp_path / "log", line + b"\n")
    assert list(read_log(file, name)) == [RawLine(expected, line, (), f"{file}:1")]


def test_msgpack_maps_in_a_row_are_taken_apart(tmp_path: Path) -> None:
    first, second = click_to_msgpack(CLICK), click_to_msgpack(OTHER)
    file = write(tmp_path / "log", first + msgpack.packb(7) + second)
    headers = (("content-type", b"application/msgpack"),)
    assert list(read_log(file, "msgpack")) == [
        RawLine(b"ada", first, headers, f"{file}:1"),
        RawLine(None, msgpack.packb(7), headers, f"{file}:2"),
        RawLine(b"bob", second, headers, f"{file}:3"),
    ]


def test_a_msgpack_record_that_is_cut_off_at_the_end_is_handed_out_as_it_is(tmp_path: Path) -> None:
    good = click_to_msgpack(CLICK)
    file = write(tmp_path / "log", good + good[:-1])
    assert [line.value for line in read_log(file, "msgpack")] == [good, good[:-1]]


def test_a_msgpack_file_that_cannot_be_taken_apart_says_where(tmp_path: Path) -> None:
    file = write(tmp_path / "log", click_to_msgpack(CLICK) + b"\xc1" + click_to_msgpack(OTHER))
    lines = read_log(file, "msgpack")
    assert next(lines).key == b"ada"
    with pytest.raises(UsageError, match=f"{file}: cannot be read beyond record 1: at byte 44"):
        next(lines)


values = st.recursive(
    st.none() | st.integers(-5, 2**40) | st.text(max_size=9) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.lists(values, max_size=6), st.integers(1, 9))
def test_msgpack_is_taken_apart_alike_in_pieces_of_any_size(
    records: list[object], size_bytes: int
) -> None:
    packed = [msgpack.packb(record) for record in records]
    raw = b"".join(packed)
    pieces = [raw[n : n + size_bytes] for n in range(0, len(raw), size_bytes)]
    assert list(split_msgpack(pieces)) == packed


# ------------------------------------------------------------------------------------- public logs


def test_taobao_s_rows_are_clicks(tmp_path: Path) -> None:
    rows = b"""5,10,77,pv,1511658000
5,10,77,cart,1511658001
6,11,78,fav,1511658001
5,10,77,buy,1511658002
"""
    read = clicks(write(tmp_path / "UserBehavior.csv", rows), "taobao")
    assert [(each.user_id, each.ts_ms, each.action, each.items) for each in read] == [
        ("5", 1_511_658_000_000, "view_item", (Item("10", "77"),)),
        ("5", 1_511_658_001_000, "add_to_cart", (Item("10", "77"),)),
        ("6", 1_511_658_001_000, "add_to_wishlist", (Item("11", "78"),)),
        ("5", 1_511_658_002_000, "purchase", (Item("10", "77"),)),
    ]


def test_a_row_that_cannot_be_read_is_handed_out_as_it_is(tmp_path: Path) -> None:
    good = b"5,10,77,pv,1511658000"
    broken = [b"5,10,77,pv", b"5,10,77,gaze,1", b"5,,77,pv,1", b"5,10,77,pv,soon", b"\xff,1,1,pv,1"]
    broken += [b"5,10,77,pv,99999999999999", b"5," + b"1" * 300 + b",77,pv,1"]
    file = write(tmp_path / "log", b"\n".join([*broken, good]))
    lines = list(read_log(file, "taobao"))
    assert [line.value for line in lines[:-1]] == broken
    assert all(line.key is None and line.headers == () for line in lines[:-1])
    assert lines[-1].where == f"{file}:{len(broken) + 1}"
    for line in lines[:-1]:
        with pytest.raises(BadEvent):
            parse(line.value, line.headers, MAX_TS_MS)


def test_equal_rows_are_one_event_and_reading_again_gives_the_same_ids(tmp_path: Path) -> None:
    row, other = b"5,10,77,pv,1511658000\n", b"5,10,77,pv,1511658001\n"
    once = clicks(write(tmp_path / "once", row + other), "taobao")
    again = clicks(write(tmp_path / "again", other + row + row), "taobao")
    assert again == [once[1], once[0], once[0]]
    assert once[0].event_id != once[1].event_id


def test_diginetica_s_views_and_purchases_meet_in_their_session(tmp_path: Path) -> None:
    midnight_ms = 1_462_752_000_000  # 2016-05-09
    lines = list(read_log(diginetica(tmp_path), "diginetica_raw"))
    read = [parse(line.value, (), MAX_TS_MS) for line in lines]
    assert [(each.user_id, each.ts_ms, each.action, each.items) for each in read] == [
        ("session-1", midnight_ms + 2_000, "view_item", (Item("11"),)),
        ("session-1", midnight_ms + 9_000, "view_item", (Item("10", "77"),)),
        (
            "session-1",
            midnight_ms + 86_400_500,
            "purchase",
            (Item("11", None, None, 2), Item("10", "77", None, 1)),
        ),
        ("session-2", midnight_ms + 86_400_000, "view_item", (Item("10", "77"),)),
    ]
    assert [line.where for line in lines] == [
        f"{tmp_path}/train-item-views.csv:3",
        f"{tmp_path}/train-item-views.csv:2",
        f"{tmp_path}/train-purchases.csv:2",
        f"{tmp_path}/train-item-views.csv:4",
    ]


@pytest.mark.parametrize("day", [b"1969-12-31", b"0001-01-01", b"9999-12-31"])
def test_a_day_of_diginetica_beyond_all_events_is_handed_out_as_it_is(
    tmp_path: Path, day: bytes
) -> None:
    folder = diginetica(tmp_path, VIEWS + b"9;7;10;5;" + day + b"\n")
    broken = [line.value for line in read_log(folder, "diginetica_raw") if line.key is None]
    assert broken == [b"9;7;10;5;" + day]


def test_an_order_of_diginetica_with_too_many_products_is_handed_out_as_it_is(
    tmp_path: Path,
) -> None:
    rows = [b"2;7;5;2016-05-10;902;%d" % item for item in range(201)]
    folder = diginetica(tmp_path, purchases=PURCHASES + b"\n".join(rows))
    broken = [line.value for line in read_log(folder, "diginetica_raw") if line.key is None]
    assert broken == rows


def test_diginetica_may_be_named_by_its_views(tmp_path: Path) -> None:
    folder = diginetica(tmp_path)
    by_file = clicks(folder / "train-item-views.csv", "diginetica_raw")
    assert by_file == clicks(folder, "diginetica_raw")


def test_rows_of_diginetica_that_cannot_be_read_are_handed_out_as_they_are(tmp_path: Path) -> None:
    views = VIEWS + b"2;7;10;soon;2016-05-10\n2;7;10;5;the ninth\n"
    folder = diginetica(tmp_path, views, PURCHASES + b"1;NA;-5;2016-05-10;900;10\n")
    broken = [line for line in read_log(folder, "diginetica_raw") if line.key is None]
    assert [(line.where, line.value) for line in broken] == [
        (f"{folder}/train-purchases.csv:6", b"1;NA;-5;2016-05-10;900;10"),
        (f"{folder}/train-item-views.csv:5", b"2;7;10;soon;2016-05-10"),
        (f"{folder}/train-item-views.csv:6", b"2;7;10;5;the ninth"),
    ]


def test_a_file_of_diginetica_that_is_absent_or_another_is_named(tmp_path: Path) -> None:
    folder = diginetica(tmp_path, views=PURCHASES)
    with pytest.raises(UsageError, match=r"train-item-views.csv:1: expected the line 'session_id"):
        list(read_log(folder, "diginetica_raw"))
    (folder / "product-categories.csv.gz").unlink()
    with pytest.raises(UsageError, match=r"has no product-categories\.csv and no"):
        list(read_log(folder, "diginetica_raw"))


def test_a_category_that_cannot_be_read_stops_with_its_place(tmp_path: Path) -> None:
    folder = diginetica(tmp_path)
    write(folder / "product-categories.csv", CATEGORIES + b"11\n")
    with pytest.raises(UsageError, match=r"product-categories.csv:3: not an item"):
        list(read_log(folder, "diginetica_raw"))


def test_a_session_line_is_a_user_who_looks_at_an_item_a_minute(tmp_path: Path) -> None:
    begin_ms = 1_451_606_400_000
    read = clicks(write(tmp_path / "log", b"1 2\n3\n4 5\t6\n"), "diginetica_sessions")
    assert [(each.user_id, each.ts_ms - begin_ms, each.items[0].item_id) for each in read] == [
        ("session-1", 0, "1"),
        ("session-1", 60_000, "2"),
        ("session-2", 1_000, "3"),
        ("prefix-3", 2_000, "4"),
        ("prefix-3", 62_000, "5"),
        ("prefix-3", 122_000, "6"),
    ]
    assert len({each.event_id for each in read}) == 6


# ------------------------------------------------------------------------------------------ errors


def test_a_format_that_nobody_knows_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'parquet' is no format; there are clickpath, "):
        read_log(tmp_path, "parquet")


def test_a_file_that_is_absent_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        read_log(tmp_path / "nowhere", "clickpath")


@pytest.mark.parametrize("name", ["clickpath", "msgpack", "taobao"])
def test_a_folder_in_place_of_a_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_log(tmp_path, name))


@pytest.mark.parametrize("name", ["clickpath", "msgpack"])
def test_a_compressed_file_that_is_cut_off_says_how_far_it_went(name: str, tmp_path: Path) -> None:
    content = click_to_json(CLICK) + b"\n" if name == "clickpath" else click_to_msgpack(CLICK)
    file = write(tmp_path / "log.gz", gzip.compress(content * 1_000)[:-20])
    with pytest.raises(UsageError, match=f"{file}: cannot be read"):
        list(read_log(file, name))


def test_aggregates_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="aggregates of sessions, not clicks"):
        read_log(tmp_path, "uci_online_shoppers")


def test_every_format_says_what_it_is() -> None:
    assert all(each.about and "\n" not in each.about for each in FORMATS.values())


# --------------------------------------------------------------------------------------- real logs


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "name", "events", "users"),
    [
        ("taobao/UserBehavior.csv.gz", "taobao", 96_168, 58_732),
        ("diginetica_raw", "diginetica_raw", 12_547, 2_986),
    ],
)
def test_a_real_log_reads_whole_without_copies_and_in_time(
    real_data: Path, file: str, name: str, events: int, users: int
) -> None:
    ids = set()
    paths: dict[str, PathState] = {}
    for line in read_log(real_data / file, name):
        click = parse(line.value, line.headers, MAX_TS_MS)
        assert line.key == click.user_id.encode()
        ids.add(click.event_id)
        path, verdict = push(paths.get(click.user_id, EMPTY_PATH), click, Window())
        assert verdict in (Verdict.HEAD, Verdict.INSERTED)
        paths[click.user_id] = path
    assert (len(ids), len(paths)) == (events, users)


@pytest.mark.data
def test_real_sessions_read_line_by_line(real_data: Path) -> None:
    lines = read_log(real_data / "diginetica_sessions/train_sessions.txt.gz", "diginetica_sessions")
    first = [parse(next(lines).value, (), MAX_TS_MS) for _ in range(5)]
    assert [(each.user_id, each.items[0].item_id) for each in first] == [
        ("session-1", "1"),
        ("session-1", "2"),
        ("session-2", "3"),
        ("session-2", "4"),
        ("session-2", "5"),
    ]


@pytest.mark.data
def test_a_real_file_of_aggregates_is_refused(real_data: Path) -> None:
    with pytest.raises(UsageError, match="aggregates of sessions"):
        read_log(real_data / "uci_online_shoppers" / "feb_to_oct.csv", "uci_online_shoppers")
