"""Whatever the bytes are, the answer is a click or a `BadEvent` with a stable code."""

import json
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from clickpath.errors import BAD_EVENT_CODES, BadEvent
from clickpath.events import Click
from clickpath.steps import Arrival, arrival_of, step_of
from clickpath.vocabulary import canonical_action
from clickpath.wire import parse, parse_arrival

NOW_MS = 1_760_000_000_123
GOLDEN = [
    path.read_bytes()
    for path in sorted((Path(__file__).parent / "golden").iterdir())
    if not path.name.endswith((".click.json", ".headers.json"))
]
RECORDS = [json.loads(raw) for raw in GOLDEN if raw.startswith(b"{")]

HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "Content-Type", "ce_specversion", "ce_id", "ce_source", "ce_type"]
        + ["ce-specversion", "ce-id", "ce_time", "other"]
    ),
    st.none()
    | st.binary(max_size=4)
    | st.sampled_from(
        [b"application/json", b"application/msgpack", b"application/cloudevents+json", b"1.0"]
    ),
    max_size=6,
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["", "1e5", "-1", "2025-10-09", "0001-01-01T00:00:00+23:59", "٣", "(not set)"]
    )
    | st.sampled_from([-0.0, 5e-324, 1e308, 10**30, -(10**30), 0.005, 2**63])
)
KEYS = sorted({key for record in RECORDS for key in record} | {"batch", "data_base64", "name"})
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, "item_id", "price", "key", "value"]), inner)
    ),
    max_leaves=8,
)


def check(raw: bytes, headers: Any = ()) -> None:
    outcome = read(raw, headers)
    if isinstance(outcome, BadEvent):
        assert outcome.code in BAD_EVENT_CODES
        assert len(str(outcome)) < 1_000
    else:
        assert outcome.action == canonical_action(outcome.type_name)
        step_of(outcome)  # hashes every text: none of them fails to encode
    # The light form is that of the click, or refused with the very same words.
    light = read_light(raw, headers)
    assert repr(light) == repr(outcome if isinstance(outcome, BadEvent) else arrival_of(outcome))


def read_light(raw: bytes, headers: Any) -> Arrival | BadEvent:
    try:
        return parse_arrival(raw, headers, NOW_MS)
    except BadEvent as error:
        return error


def read(raw: bytes, headers: Any) -> Click | BadEvent:
    try:
        return parse(raw, headers, NOW_MS)
    except BadEvent as error:
        return error


@given(st.binary(max_size=60), HEADERS)
@example(b"\xdf\xff\xff\xff\xff", {})
@example(b"\xde\xff\xff", {})
@example(b"\x81" * 60, {})
@example(b"\xef\xbb\xbf" * 20, {})
@example(b"\x81\xa5ts_ms\xd6\xff\x00\x00\x00\x01", {})  # a msgpack timestamp
@example(b"\x81\xa5ts_ms\xc7\x05\xff12345", {})  # one of a wrong length
@example(b"\x81\x90\x00", {})  # a list as a key
def test_any_bytes_are_a_click_or_refused(raw: bytes, headers: dict[str, bytes | None]) -> None:
    check(raw, headers)


@given(st.sampled_from(GOLDEN), st.data())
def test_a_few_wrong_bytes_in_good_events_do_no_harm(raw: bytes, data: st.DataObject) -> None:
    broken = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(broken[: data.draw(st.integers(0, len(broken)))]))
    check(bytes(broken))


@given(st.sampled_from(RECORDS), st.data(), HEADERS)
def test_wrong_values_in_any_place_of_any_format_do_no_harm(
    record: dict[str, Any], data: st.DataObject, headers: dict[str, bytes | None]
) -> None:
    changed = json.loads(json.dumps(record))
    place = changed
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        deeper = place[key]
        if not deeper or not isinstance(deeper, dict | list) or data.draw(st.booleans()):
            break
        place = deeper
    place[key] = data.draw(VALUES)
    raw = json.dumps(changed).encode()
    check(raw)
    check(raw, headers)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_mixture_of_known_fields_is_a_click_or_refused(record: dict[str, Any]) -> None:
    check(json.dumps(record).encode())
    envelope = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    check(json.dumps(envelope | {"data": record}).encode())


def test_a_deep_msgpack_message_is_refused() -> None:
    check(b"\x81\xa5ts_ms" + b"\x91" * 100_000)
    check(b"\x81\xa5ts_ms" + b"\x91" * 400 + b"\xc0")
    check(msgpack.packb({"ts_ms": msgpack.ExtType(5, b"x" * 5_000)}))


@given(
    st.fixed_dictionaries(
        {
            "event_id": st.text(max_size=3) | st.just("e" * 257),
            "user_id": st.sampled_from(["ann", "ä", ""]),
            "type": st.sampled_from(["view_item", "add_to_cart", "Product Viewed", "dance"]),
            "ts_ms": st.integers(NOW_MS - 10, NOW_MS + 10) | st.just(-1),
        },
        optional={
            "v": st.sampled_from([None, 1, 2, True]),
            "item_id": st.sampled_from(["shoe", "", None, 7]),
            "category": st.sampled_from(["wear", "", None, 7, "c" * 257]),
            "price_cents": st.sampled_from([0, 499, -1, None, 10**12, 10**12 + 1, 1.5, True]),
            "quantity": st.sampled_from([0, 3, -1, None, 10**6 + 1]),
            "value_cents": st.sampled_from([0, 70, -1, None, 10**13]),
            "items": st.none() | st.lists(st.just({"item_id": "sock", "price_cents": 350})),
        },
    )
)
def test_nearly_plain_events_read_alike_in_the_light_form(record: dict[str, Any]) -> None:
    check(json.dumps(record).encode())
