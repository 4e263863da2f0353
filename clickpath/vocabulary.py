"""The action vocabulary: GA4's e-commerce event names, and how other names map onto them.

The position of a name in `ACTIONS` is its meaning to every model: append, never reorder.

Sources: GA4 recommended events (e-commerce), Segment e-commerce spec v2.
"""

from __future__ import annotations

from typing import Final

ACTIONS: Final[tuple[str, ...]] = (
    "page_view",
    "search",
    "view_item_list",
    "select_item",
    "view_item",
    "add_to_wishlist",
    "add_to_cart",
    "remove_from_cart",
    "view_cart",
    "begin_checkout",
    "add_shipping_info",
    "add_payment_info",
    "purchase",
    "refund",
    "view_promotion",
    "select_promotion",
    "apply_coupon",
    "login",
    "sign_up",
    "contact_support",
    "other",
)

OTHER: Final = "other"

#: Ids start at 1; 0 is padding.
ACTION_ID: Final[dict[str, int]] = {name: n for n, name in enumerate(ACTIONS, start=1)}

#: The size of an axis indexed by action id, the padding included.
ACTION_COUNT: Final = len(ACTIONS) + 1

SEGMENT_ACTIONS: Final[dict[str, str]] = {
    "Products Searched": "search",
    "Product List Viewed": "view_item_list",
    "Product List Filtered": "view_item_list",
    "Product Clicked": "select_item",
    "Product Viewed": "view_item",
    "Product Added": "add_to_cart",
    "Product Removed": "remove_from_cart",
    "Cart Viewed": "view_cart",
    "Checkout Started": "begin_checkout",
    "Payment Info Entered": "add_payment_info",
    "Order Completed": "purchase",
    "Order Refunded": "refund",
    "Promotion Viewed": "view_promotion",
    "Promotion Clicked": "select_promotion",
    "Coupon Applied": "apply_coupon",
    "Product Added to Wishlist": "add_to_wishlist",
    "Signed In": "login",
    "Signed Up": "sign_up",
    "page": "page_view",
    "screen": "page_view",
}
"""Segment's event names, and those of its calls that are an event by themselves.

`Checkout Step Completed` depends on its step and stays `other`.
"""


def canonical_action(name: str) -> str:
    """The action that an event name stands for; a name that nobody knows is `other`."""
    return name if name in ACTION_ID else SEGMENT_ACTIONS.get(name, OTHER)
