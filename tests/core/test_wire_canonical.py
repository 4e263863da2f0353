import json
from math import inf, nan
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clickpath.errors import BadEvent
from clickpath.events import MAX_CENTS, MAX_QUANTITY, Click, Item
from clickpath.simulation import simulate
from clickpath.vocabulary import canonical_action
from clickpath.wire import MAX_EVENT_BYTES, canonical, click_to_json, click_to_msgpack, parse

NOW_MS = 1_760_000_000_000
DAY_MS = 86_400_000
GOOD: dict[str, Any] = {
    "event_id": "e-1",
    "type": "view_item",
    "user_id": "ada",
    "ts_ms": NOW_MS,
    "items": [{"item_id": "shoe", "category": "shoes", "price_cents": 4999, "quantity": 1}],
    "value_cents": 4999,
}


def refusal(raw: bytes, headers: Any = ()) -> tuple[str, str]:
    with pytest.raises(BadEvent) as caught:
        parse(raw, headers, NOW_MS)
    return caught.value.code, caught.value.field


def but(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def without(*fields: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k not in fields}).encode()


def item_but(**fields: Any) -> bytes:
    return but(items=[GOOD["items"][0], GOOD["items"][0] | fields])


def test_bytes_that_are_no_event_tell_why() -> None:
    assert refusal(b"") == ("empty", "")
    assert refusal(b" ") == ("not_json", "")
    assert refusal(b"\xff\xfe") == ("not_utf8", "")
    assert refusal(b'{"event_id": "\xff"}') == ("not_utf8", "")
    assert refusal(b'{"event_id"') == ("not_json", "")
    assert refusal(b'{"event_id": "\\ud800"}') == ("not_json", "")
    assert refusal(b"{} {}") == ("not_json", "")
    assert refusal(b"{}") == ("not_an_event", "")
    assert refusal(b'{"hello": "world"}') == ("not_an_event", "")
    assert refusal(b"null") == ("not_an_event", "")
    assert refusal(b"[1]") == ("not_an_event", "")
    assert refusal(b"7") == ("not_an_event", "")
    assert refusal(b'{"a":' + b"[" * 300) == ("out_of_range", "")
    assert refusal(b'{"ts_ms":' + b"9" * 5_000 + b"}") == ("out_of_range", "")


def test_no_payload_at_all_is_empty() -> None:
    with pytest.raises(BadEvent, match="no payload") as caught:
        parse(None, (), NOW_MS)
    assert caught.value.code == "empty"


def test_a_record_of_one_mebibyte_is_read_and_one_byte_more_is_not() -> None:
    padding = MAX_EVENT_BYTES - len(but(note=""))
    assert parse(but(note="x" * padding), (), NOW_MS).event_id == "e-1"
    assert refusal(but(note="x" * (padding + 1))) == ("too_large", "")
    assert refusal(b"\xff" * (MAX_EVENT_BYTES + 1)) == ("too_large", "")


@pytest.mark.parametrize("field", ["event_id", "type", "user_id", "ts_ms"])
def test_a_required_field_that_is_absent_null_or_empty_is_missing(field: str) -> None:
    assert refusal(without(field)) == ("missing_field", field)
    assert refusal(but(**{field: None})) == ("missing_field", field)
    if field != "ts_ms":
        assert refusal(but(**{field: ""})) == ("missing_field", field)


@pytest.mark.parametrize("wrong", [7, 1.5, True, [], {}])
def test_an_id_that_is_no_text_is_of_the_wrong_type(wrong: Any) -> None:
    for field in ("event_id", "type", "user_id"):
        assert refusal(but(**{field: wrong})) == ("wrong_type", field)
    assert refusal(item_but(item_id=wrong)) == ("wrong_type", "items[1].item_id")
    assert refusal(item_but(category=wrong)) == ("wrong_type", "items[1].category")


@pytest.mark.parametrize("wrong", ["7", 1.0, True, [], {}])
def test_an_amount_that_is_no_integer_is_of_the_wrong_type(wrong: Any) -> None:
    assert refusal(but(value_cents=wrong)) == ("wrong_type", "value_cents")
    assert refusal(item_but(price_cents=wrong)) == ("wrong_type", "items[1].price_cents")
    assert refusal(item_but(quantity=wrong)) == ("wrong_type", "items[1].quantity")


@pytest.mark.parametrize("wrong", ["soon", str(NOW_MS), 1.5, True, -1, 10**15, 10**400, [], {}])
def test_a_time_that_is_no_epoch_millisecond_is_bad(wrong: Any) -> None:
    assert refusal(but(ts_ms=wrong)) == ("bad_timestamp", "ts_ms")


def test_items_are_a_list_of_maps_with_an_id() -> None:
    assert refusal(but(items="three")) == ("wrong_type", "items")
    assert refusal(but(items={"item_id": "shoe"})) == ("wrong_type", "items")
    assert refusal(but(items=["shoe"])) == ("wrong_type", "items[0]")
    assert refusal(but(items=[{"price_cents": 1}])) == ("missing_field", "items[0].item_id")
    assert refusal(but(items=[{"item_id": "shoe"}] * 201)) == ("out_of_range", "items")


def test_amounts_and_texts_have_limits() -> None:
    assert refusal(but(value_cents=-1)) == ("negative_price", "value_cents")
    assert refusal(but(value_cents=MAX_CENTS + 1)) == ("out_of_range", "value_cents")
    assert refusal(item_but(price_cents=-1)) == ("negative_price", "items[1].price_cents")
    assert refusal(item_but(price_cents=10**400)) == ("out_of_range", "items[1].price_cents")
    assert refusal(item_but(quantity=-1)) == ("negative_price", "items[1].quantity")
    assert refusal(item_but(quantity=MAX_QUANTITY + 1)) == ("out_of_range", "items[1].quantity")
    assert refusal(but(event_id="e" * 257)) == ("out_of_range", "event_id")
    assert refusal(item_but(item_id="i" * 257)) == ("out_of_range", "items[1].item_id")


@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(number: float) -> None:
    assert refusal(but(value_cents=number)) == ("not_finite", "value_cents")
    assert refusal(item_but(price_cents=number)) == ("not_finite", "items[1].price_cents")
    assert refusal(but(note={"of": [1, number]})) == ("not_finite", "note.of[1]")
    packed = msgpack.packb(GOOD | {"value_cents": number})
    assert refusal(packed) == ("not_finite", "value_cents")


def test_only_the_first_major_version_is_known() -> None:
    assert parse(but(v=1), (), NOW_MS) == parse(but(), (), NOW_MS)
    assert parse(but(v=None), (), NOW_MS) == parse(but(), (), NOW_MS)
    assert refusal(but(v=2)) == ("unknown_version", "v")
    assert refusal(but(v=0)) == ("unknown_version", "v")
    assert refusal(but(v=True)) == ("wrong_type", "v")
    assert refusal(but(v="1")) == ("wrong_type", "v")


def test_an_event_may_be_a_day_ahead_and_no_more() -> None:
    assert parse(but(ts_ms=NOW_MS + DAY_MS), (), NOW_MS).ts_ms == NOW_MS + DAY_MS
    assert refusal(but(ts_ms=NOW_MS + DAY_MS + 1)) == ("future_timestamp", "ts_ms")
    assert parse(but(ts_ms=NOW_MS + 5), (), NOW_MS, 5).ts_ms == NOW_MS + 5
    with pytest.raises(BadEvent):
        parse(but(ts_ms=NOW_MS + 6), (), NOW_MS, 5)


def test_an_unknown_type_is_another_action_under_its_own_name() -> None:
    click = parse(but(type="size_chart_opened"), (), NOW_MS)
    assert (click.action, click.type_name) == ("other", "size_chart_opened")


def test_fields_that_nobody_knows_are_ignored() -> None:
    plain = parse(but(), (), NOW_MS)
    assert parse(but(url="https://x", nested={"deep": [1, 2.5, None]}), (), NOW_MS) == plain


def test_one_item_may_stand_in_the_event_itself() -> None:
    short = json.loads(without("items")) | {"item_id": "shoe", "price_cents": 4999}
    click = parse(json.dumps(short).encode(), (), NOW_MS)
    assert click.items == (Item("shoe", None, 4999, 1),)


def test_a_price_without_an_item_is_missing_its_item() -> None:
    for lonely in ({"price_cents": 5}, {"quantity": 2}):
        raw = json.dumps(json.loads(without("items")) | lonely).encode()
        assert refusal(raw) == ("missing_field", "item_id")


def test_a_category_without_an_item_says_nothing() -> None:
    raw = json.dumps(json.loads(without("items")) | {"category": "shoes"}).encode()
    assert parse(raw, (), NOW_MS).items == ()


def test_the_optional_fields_may_be_null() -> None:
    raw = but(value_cents=None, items=[{"item_id": "shoe", "category": None, "quantity": None}])
    click = parse(raw, (), NOW_MS)
    assert (click.value_cents, click.items) == (None, (Item("shoe"),))
    assert parse(but(items=None), (), NOW_MS).items == ()


def test_of_duplicate_keys_the_last_one_counts() -> None:
    raw = but()[:-1] + b', "user_id": "bob"}'
    assert parse(raw, (), NOW_MS).user_id == "bob"


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbf" + but(), (), NOW_MS) == parse(but(), (), NOW_MS)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "text/json",
        "application/vnd.shop.click+json",
        "text/plain",
        "application/octet-stream",
        "",
    ],
)
def test_json_is_read_under_each_of_its_types(content_type: str) -> None:
    headers = (("Content-Type", content_type.encode()),)
    assert parse(but(), headers, NOW_MS).event_id == "e-1"


@pytest.mark.parametrize(
    "content_type", ["application/msgpack", "application/x-msgpack", "application/a+msgpack", ""]
)
def test_msgpack_is_read_under_each_of_its_types(content_type: str) -> None:
    headers = {"content-type": content_type.encode()}
    assert parse(msgpack.packb(GOOD), headers, NOW_MS) == parse(but(), (), NOW_MS)


def test_a_type_that_nobody_reads_is_refused() -> None:
    for content_type in (b"text/csv", b"application/avro", b"application/cloudevents-batch+json"):
        headers = (("content-type", content_type),)
        assert refusal(but(), headers) == ("unknown_content_type", "content-type")


def test_msgpack_that_is_none_tells_why() -> None:
    packed = (("content-type", b"application/msgpack"),)
    assert refusal(b"\xc1", packed) == ("not_msgpack", "")
    assert refusal(but(), packed) == ("not_msgpack", "")
    assert refusal(msgpack.packb(GOOD)[:-1]) == ("not_msgpack", "")
    assert refusal(msgpack.packb({1: 2})) == ("not_msgpack", "")
    assert refusal(msgpack.packb(7), packed) == ("not_an_event", "")
    assert refusal(msgpack.packb({"hello": 1})) == ("not_an_event", "")
    assert refusal(b"\x81\xa1a\xa1\xff") == ("not_utf8", "")
    assert refusal(msgpack.packb(GOOD | {"user_id": b"ada"})) == ("wrong_type", "user_id")


def test_a_header_without_a_value_counts_as_absent() -> None:
    assert parse(but(), (("content-type", None),), NOW_MS).event_id == "e-1"


texts = st.text(min_size=1, max_size=256)
cents = st.none() | st.integers(0, MAX_CENTS)
clicks = st.builds(
    lambda name, **rest: Click(action=canonical_action(name), type_name=name, **rest),
    name=st.sampled_from(["view_item", "Product Added", "page"]) | texts,
    event_id=texts,
    user_id=texts,
    ts_ms=st.integers(0, NOW_MS),
    items=st.lists(
        st.builds(Item, texts, st.none() | texts, cents, st.integers(0, MAX_QUANTITY)), max_size=3
    ).map(tuple),
    value_cents=cents,
)


@given(clicks)
def test_what_is_written_reads_back_as_it_was(click: Click) -> None:
    assert parse(click_to_json(click), (), NOW_MS) == click
    assert parse(click_to_msgpack(click), (), NOW_MS) == click


def test_what_is_written_is_one_short_line() -> None:
    click = parse(but(), (), NOW_MS)
    assert click_to_json(click) == (
        b'{"event_id":"e-1","type":"view_item","user_id":"ada","ts_ms":1760000000000,'
        b'"items":[{"item_id":"shoe","category":"shoes","price_cents":4999,"quantity":1}],'
        b'"value_cents":4999}'
    )
    assert click_to_json(Click("e", "u", 0, "login", "login")) == (
        b'{"event_id":"e","type":"login","user_id":"u","ts_ms":0}'
    )


@given(clicks, st.data())
@example(parse(but(), (), NOW_MS), None)
def test_json_and_msgpack_are_refused_alike(click: Click, data: Any) -> None:
    record = json.loads(click_to_json(click))
    if data is not None:
        field = data.draw(st.sampled_from([*GOOD, "v", "item_id", "quantity"]))
        record[field] = data.draw(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**63)
            | st.text(max_size=3)
            | st.lists(st.integers(0, 9), max_size=2)
        )

    def outcome(raw: bytes) -> object:
        try:
            return parse(raw, (), NOW_MS)
        except BadEvent as error:
            return error.code, error.field

    assert outcome(json.dumps(record).encode()) == outcome(msgpack.packb(record))


def test_nearly_all_events_of_a_shop_are_read_the_short_way() -> None:
    records = [json.loads(click_to_json(each)) for each in simulate(2_000, 40, seed=1)]
    assert sum(canonical.read_plain(each) is not None for each in records) > 1_900
