from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from clickpath.errors import BadEvent
from clickpath.events import MAX_CENTS, MAX_ITEMS, MAX_QUANTITY, MAX_TS_MS, Click, Item
from clickpath.vocabulary import ACTION_COUNT, ACTION_ID, ACTIONS, SEGMENT_ACTIONS, canonical_action

GOOD: dict[str, Any] = {
    "event_id": "e-1",
    "user_id": "ada",
    "ts_ms": 5,
    "action": "view_item",
    "type_name": "Product Viewed",
    "items": (Item("shoe"),),
    "value_cents": 4999,
}


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"event_id": ""}, "missing_field", "event_id"),
        ({"event_id": "e" * 257}, "out_of_range", "event_id"),
        ({"user_id": ""}, "missing_field", "user_id"),
        ({"user_id": "u" * 257}, "out_of_range", "user_id"),
        ({"type_name": ""}, "missing_field", "type"),
        ({"type_name": "t" * 257}, "out_of_range", "type"),
        ({"action": "Product Viewed"}, "out_of_range", "action"),
        ({"ts_ms": -1}, "bad_timestamp", "ts_ms"),
        ({"ts_ms": MAX_TS_MS + 1}, "bad_timestamp", "ts_ms"),
        ({"items": (Item("shoe"),) * (MAX_ITEMS + 1)}, "out_of_range", "items"),
        ({"value_cents": -1}, "negative_price", "value_cents"),
        ({"value_cents": MAX_CENTS + 1}, "out_of_range", "value_cents"),
    ],
)
def test_a_wrong_click_cannot_be_made(fields: dict[str, Any], code: str, place: str) -> None:
    with pytest.raises(BadEvent) as caught:
        Click(**GOOD | fields)
    assert (caught.value.code, caught.value.field) == (code, place)
    assert str(caught.value).startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("item", "code", "place"),
    [
        (("",), "missing_field", "items.item_id"),
        (("i" * 257,), "out_of_range", "items.item_id"),
        (("i", "c" * 257), "out_of_range", "items.category"),
        (("i", None, -1), "negative_price", "items.price_cents"),
        (("i", None, MAX_CENTS + 1), "out_of_range", "items.price_cents"),
        (("i", None, None, -1), "negative_price", "items.quantity"),
        (("i", None, None, MAX_QUANTITY + 1), "out_of_range", "items.quantity"),
    ],
)
def test_a_wrong_item_cannot_be_made(item: tuple[Any, ...], code: str, place: str) -> None:
    with pytest.raises(BadEvent) as caught:
        Item(*item)
    assert (caught.value.code, caught.value.field) == (code, place)


def test_values_at_their_limits_are_good() -> None:
    Item("i" * 256, "c" * 256, MAX_CENTS, MAX_QUANTITY)
    Item("i", "", 0, 0)
    Click("e" * 256, "u" * 256, MAX_TS_MS, "other", "t" * 256, (Item("i"),) * 200, MAX_CENTS)
    Click("e", "u", 0, "other", "t", (), 0)


def test_a_click_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Click(**GOOD).user_id = "bob"  # type: ignore[misc]


def test_the_order_of_the_actions_is_what_models_learnt() -> None:
    assert ACTIONS[:5] == ("page_view", "search", "view_item_list", "select_item", "view_item")
    assert ACTIONS[-3:] == ("sign_up", "contact_support", "other")
    assert (len(ACTIONS), ACTION_COUNT, ACTION_ID["page_view"]) == (21, 22, 1)


def test_a_name_maps_onto_an_action_or_is_other() -> None:
    assert [canonical_action(name) for name in ACTIONS] == list(ACTIONS)
    assert set(SEGMENT_ACTIONS.values()) < set(ACTIONS)
    assert canonical_action("Order Completed") == "purchase"
    assert canonical_action("page") == "page_view"
    assert canonical_action("order completed") == "other"
    assert canonical_action("") == "other"
