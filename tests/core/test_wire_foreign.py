import json
from base64 import b64encode
from typing import Any

import pytest

from clickpath.errors import BadEvent
from clickpath.events import Click
from clickpath.wire import parse

NOW_MS = 1_760_000_000_123
TIME = "2025-10-09T08:53:20.123Z"
TRACK: dict[str, Any] = {
    "type": "track",
    "event": "Product Added",
    "userId": "ada",
    "timestamp": TIME,
    "properties": {"product_id": "507", "price": 19.99, "quantity": 2},
}
GA4: dict[str, Any] = {
    "client_id": "77.88",
    "timestamp_micros": 1_760_000_000_123_456,
    "events": [{"name": "view_item", "params": {"items": [{"item_id": "1", "price": 1.5}]}}],
}
CE: dict[str, Any] = {"specversion": "1.0", "id": "ce-1", "source": "/shop", "type": "click"}
CANONICAL = {"event_id": "e-1", "type": "login", "user_id": "ada", "ts_ms": NOW_MS}


def read(record: Any, headers: Any = ()) -> Click:
    return parse(json.dumps(record).encode(), headers, NOW_MS)


def refusal(record: Any, headers: Any = ()) -> tuple[str, str]:
    with pytest.raises(BadEvent) as caught:
        read(record, headers)
    return caught.value.code, caught.value.field


def product(**fields: Any) -> dict[str, Any]:
    return TRACK | {"properties": TRACK["properties"] | fields}


@pytest.mark.parametrize(
    ("price", "price_cents"),
    [
        (19.99, 1999),
        (0.1 + 0.2, 30),
        (1.005, 101),
        (2.675, 268),
        (0.004999, 0),
        (10, 1000),
        ("19.99", 1999),
        ("8.", 800),
        (1e-300, 0),
        (9_999_999_999.99, 999_999_999_999),
        (-0.0, 0),
        ("", None),
        (None, None),
    ],
)
def test_money_becomes_exact_cents_halves_away_from_zero(price: Any, price_cents: Any) -> None:
    assert read(product(price=price)).items[0].price_cents == price_cents


@pytest.mark.parametrize(
    ("price", "code"),
    [
        (-0.001, "negative_price"),
        ("-5", "negative_price"),
        (1e11, "out_of_range"),
        (10**400, "out_of_range"),
        (True, "wrong_type"),
        ("19,99", "wrong_type"),
        ("NaN", "wrong_type"),
        ([], "wrong_type"),
        (float("nan"), "not_finite"),
    ],
)
def test_a_price_that_is_no_amount_is_refused_with_its_place(price: Any, code: str) -> None:
    assert refusal(product(price=price)) == (code, "properties.price")


def test_pieces_are_whole() -> None:
    assert read(product(quantity=2.0)).items[0].quantity == 2
    assert read(product(quantity="3")).items[0].quantity == 3
    assert refusal(product(quantity=0.5)) == ("wrong_type", "properties.quantity")
    assert refusal(product(quantity=-1)) == ("negative_price", "properties.quantity")


@pytest.mark.parametrize(
    "time",
    ["yesterday", "", 1_760_000_000_123, "2025-13-01", "1969-12-31T23:59:59Z", "2" * 100, True],
)
def test_a_time_that_is_not_iso_8601_since_1970_is_bad(time: Any) -> None:
    assert refusal(TRACK | {"timestamp": time}) == ("bad_timestamp", "timestamp")


@pytest.mark.parametrize(
    "time", ["2025-10-09T08:53:20.123", "2025-10-09T10:53:20.123999+02:00", "20251009T085320.123Z"]
)
def test_a_time_is_cut_to_milliseconds_and_in_utc_if_it_does_not_say(time: str) -> None:
    assert read(TRACK | {"timestamp": time}).ts_ms == 1_760_000_000_123


def test_segment_needs_a_user_a_time_and_a_name() -> None:
    assert refusal({k: v for k, v in TRACK.items() if k != "userId"}) == (
        "missing_field",
        "userId",
    )
    assert refusal(TRACK | {"timestamp": None}) == ("missing_field", "timestamp")
    assert refusal(TRACK | {"event": ""}) == ("missing_field", "event")
    assert refusal(TRACK | {"userId": True}) == ("wrong_type", "userId")
    assert refusal(TRACK | {"properties": []}) == ("wrong_type", "properties")
    assert refusal(TRACK | {"type": "delete"}) == ("not_an_event", "type")
    assert refusal({"batch": [TRACK]}) == ("not_an_event", "batch")


def test_a_product_needs_an_id() -> None:
    listed = TRACK | {"properties": {"products": [{"product_id": "1"}, {"price": 5}]}}
    assert refusal(listed) == ("missing_field", "properties.products[1].product_id")
    assert read(TRACK | {"properties": {"price": 5}}).items == ()


def test_an_id_is_derived_from_user_time_name_and_content_alone() -> None:
    derived = read(TRACK).event_id
    assert derived == "ac30bed1a8a006f05ef8eea711c10594"
    resent = json.dumps(TRACK | {"sentAt": "2026-01-01"}, sort_keys=True, indent=3).encode()
    assert parse(resent, (), NOW_MS).event_id == derived
    others = [
        TRACK | {"userId": "bob"},
        TRACK | {"timestamp": "2025-10-09T08:53:20.122Z"},
        TRACK | {"event": "Product Removed"},
        product(quantity=3),
    ]
    assert len({derived, *(read(each).event_id for each in others)}) == 5


def test_ga4_without_its_user_time_or_name_is_refused() -> None:
    assert refusal(GA4 | {"client_id": ""}) == ("missing_field", "user_id")
    assert refusal(GA4 | {"timestamp_micros": None}) == ("missing_field", "timestamp_micros")
    assert refusal(GA4 | {"timestamp_micros": "soon"}) == ("bad_timestamp", "timestamp_micros")
    assert refusal(GA4 | {"timestamp_micros": 10**30}) == ("bad_timestamp", "timestamp_micros")
    assert refusal(GA4 | {"events": [{}]}) == ("missing_field", "events[0].name")
    assert refusal(GA4 | {"events": [7]}) == ("wrong_type", "events[0]")
    assert refusal(GA4 | {"events": "one"}) == ("wrong_type", "events")


def test_ga4_with_several_events_or_none_is_no_event() -> None:
    assert refusal(GA4 | {"events": GA4["events"] * 2}) == ("not_an_event", "events")
    assert refusal(GA4 | {"events": []}) == ("not_an_event", "events")
    assert refusal({"client_id": "77.88"}) == ("not_an_event", "events")


def test_ga4_s_event_may_carry_its_own_time() -> None:
    event = GA4["events"][0] | {"timestamp_micros": 1_750_000_000_000_999}
    assert read(GA4 | {"events": [event]}).ts_ms == 1_750_000_000_000


def test_ga4_s_mistakes_have_their_place() -> None:
    params = {"value": -1, "items": [{"item_id": "1", "price": "dear"}]}
    body = GA4 | {"events": [{"name": "purchase", "params": params}]}
    assert refusal(body) == ("wrong_type", "events[0].params.items[0].price")
    params["items"] = []
    assert refusal(body) == ("negative_price", "events[0].params.value")


def test_a_cloudevent_lends_its_id_and_time_only_to_an_event_without() -> None:
    assert read(CE | {"data": CANONICAL}).event_id == "e-1"
    bare = {"type": "login", "user_id": "ada"}
    lent = read(CE | {"time": TIME, "data": bare})
    assert (lent.event_id, lent.ts_ms) == ("ce-1", NOW_MS)
    assert read(CE | {"data": TRACK}).event_id == "ce-1"
    assert read(CE | {"data": TRACK | {"messageId": "m-1"}}).event_id == "m-1"
    assert read(CE | {"data": GA4}).event_id == "ce-1"
    assert refusal(CE | {"data": bare}) == ("missing_field", "ts_ms")


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_a_cloudevent_needs_its_required_attributes(name: str) -> None:
    assert refusal(CE | {"data": CANONICAL, name: ""}) == ("missing_field", name)
    assert refusal(CE | {"data": CANONICAL, name: 7}) == ("wrong_type", name)


def test_a_cloudevent_of_another_major_version_is_unknown() -> None:
    assert refusal(CE | {"data": CANONICAL, "specversion": "2.0"}) == (
        "unknown_version",
        "specversion",
    )
    assert refusal(CE | {"specversion": 1.0}) == ("wrong_type", "specversion")
    headers = {"ce_specversion": b"0.3", "ce_id": b"1", "ce_source": b"s", "ce_type": b"t"}
    assert refusal(CANONICAL, headers) == ("unknown_version", "ce_specversion")
    structured = {"content-type": b"application/cloudevents+json"}
    assert refusal(CANONICAL, structured) == ("missing_field", "specversion")
    assert refusal([CE], structured) == ("not_an_event", "")


def test_a_cloudevent_s_data_may_be_a_map_a_text_or_base64() -> None:
    raw = json.dumps(CANONICAL)
    expected = read(CANONICAL)
    assert read(CE | {"data": CANONICAL}) == expected
    assert read(CE | {"data": raw}) == expected
    assert read(CE | {"data_base64": b64encode(raw.encode()).decode()}) == expected


def test_a_cloudevent_without_readable_data_is_refused() -> None:
    assert refusal(CE) == ("empty", "data")
    assert refusal(CE | {"data": ""}) == ("empty", "data")
    assert refusal(CE | {"data": [CANONICAL]}) == ("not_an_event", "")
    assert refusal(CE | {"data_base64": "*"}) == ("wrong_type", "data_base64")
    assert refusal(CE | {"data_base64": 7}) == ("wrong_type", "data_base64")
    assert refusal(CE | {"data": "a,b", "datacontenttype": "text/csv"}) == (
        "unknown_content_type",
        "content-type",
    )


def test_a_cloudevent_inside_a_cloudevent_is_refused() -> None:
    inner = CE | {"data": CANONICAL}
    assert refusal(CE | {"data": inner}) == ("not_an_event", "data")
    headers = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"s", "ce_type": b"t"}
    assert refusal(inner, headers) == ("not_an_event", "data")


def test_a_header_of_a_cloudevent_that_is_no_utf8_is_refused() -> None:
    headers = {"ce_specversion": b"1.0", "ce_id": b"\xff", "ce_source": b"s", "ce_type": b"t"}
    assert refusal(CANONICAL, headers) == ("not_utf8", "ce_id")
