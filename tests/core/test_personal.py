"""What looks like personal data, what only seems to, and what becomes of an event that holds it."""

import json
import time
from collections import Counter

import msgpack
import pytest

from clickpath.errors import BadEvent
from clickpath.wire import parse, parse_arrival
from clickpath.wire.personal import kind_of, may_hold

NOW_MS = 1_760_000_000_000
EMAIL, PHONE, CARD = "bob@example.com", "+49 170 1234567", "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (EMAIL, "email"),
        ("mail to bob.b+shop@mail.example.co.uk now", "email"),
        ("bob%40example.com", "email"),
        ("müller@exämple.de", "email"),
        (PHONE, "phone"),
        ("tel:+491701234567", "phone"),
        ("0170/1234567", "phone"),
        ("(555) 234-5678", "phone"),
        ("4111111111111111", "card"),
        (CARD, "card"),
        ("3782-822463-10005", "card"),
        ("paid with 5555555555554444", "card"),
    ],
)
def test_what_looks_like_personal_data_is_told_by_its_kind(text: str, kind: str) -> None:
    assert kind_of(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sku-4711",
        "shoes & socks",
        "4006381333931",  # an EAN
        "1760000000000000",  # microseconds
        "4111111111111112",  # Luhn says no
        "12345678901234567890",
        "100-200-3000",
        "b5f9f3d0-4111-4111-9111-111111111111",
        "user@localhost",
        "nike+20260131",
        "2026-01-31 10:15:30",
        "192.168.100.200",
    ],
)
def test_what_only_seems_to_be_is_left_alone(text: str) -> None:
    assert kind_of(text) is None


def event(**fields: object) -> dict[str, object]:
    return {"event_id": "e-1", "type": "add_to_cart", "user_id": "u", "ts_ms": NOW_MS} | fields


def test_personal_fields_are_dropped_counted_and_the_event_is_kept() -> None:
    raw = json.dumps(
        event(
            type=f"asked {PHONE}",
            items=[
                {"item_id": "sku-1", "category": EMAIL, "price_cents": 5},
                {"item_id": CARD, "category": "shoes"},
            ],
        )
    ).encode()
    dropped: Counter[str] = Counter()

    click = parse(raw, (), NOW_MS, dropped=dropped)

    assert (click.action, click.type_name) == ("other", "other")
    assert [(item.item_id, item.category) for item in click.items] == [("sku-1", None)]
    assert dropped == {"email": 1, "phone": 1, "card": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"item_id": EMAIL},
        {"item_id": "sku-1", "category": PHONE},
        {"items": [{"item_id": CARD}]},
        {"type": EMAIL},
    ],
)
def test_the_quick_way_drops_what_the_long_one_drops(fields: dict[str, object]) -> None:
    quick, long = Counter[str](), Counter[str]()
    raw, packed = json.dumps(event(**fields)).encode(), msgpack.packb(event(**fields))
    headers = (("content-type", b"application/msgpack"),)

    _, _, step = parse_arrival(raw, (), NOW_MS, dropped=quick)
    _, _, other = parse_arrival(packed, headers, NOW_MS, dropped=long)

    assert step == other
    assert quick == long
    assert quick.total() == 1


@pytest.mark.parametrize("read", [parse, parse_arrival])
@pytest.mark.parametrize("event_id", [EMAIL, PHONE, CARD])
def test_an_event_id_that_looks_personal_is_refused_and_not_repeated(
    read: object, event_id: str
) -> None:
    with pytest.raises(BadEvent) as refused:
        read(json.dumps(event(event_id=event_id)).encode(), (), NOW_MS)  # type: ignore[operator]

    assert refused.value.code == "personal_data"
    assert event_id not in str(refused.value)


@pytest.mark.parametrize("text", [EMAIL, PHONE, CARD])
def test_bytes_of_any_kind_are_looked_through(text: str) -> None:
    packed = msgpack.packb({"note": "x" * 40 + text, "n": text})
    for raw in (
        text.encode(),
        json.dumps({"deep": [{"in": text}]}).encode()[:-1],
        json.dumps(text.replace("@", "\\u0040")).replace("\\\\", "\\").encode(),
        text.encode("utf-16-le"),
        packed,
        b"\xff\xfe" + text.encode(),
    ):
        assert may_hold([None, raw]), raw
    assert not may_hold([b'{"event_id":"e-1","ts_ms":1760000000000}', b"u-1", None])


@pytest.mark.parametrize("unit", ["-", "1", "a@", "a@a.", "+1 ", "4111 ", "555-", "w-", "0123/"])
def test_hostile_bytes_are_looked_through_in_time_that_grows_with_their_length(unit: str) -> None:
    """A pattern that backtracks would take minutes."""
    raw = (unit * 65_536)[:65_536].encode()
    begun_s = time.process_time()
    may_hold([raw])
    assert time.process_time() - begun_s < 5
