"""Policy files: what is read, what is refused and where, and what the digest stands for."""

from __future__ import annotations

import pytest

from clickpath.eligibility import Band
from clickpath.errors import ConfigError
from clickpath.policy import KINDS, Cap, Policy
from clickpath.policy_file import default_policy, default_policy_text, lint_policy, load_policy

SMALL = """\
version: 1
name: small
holdout_pct: 10
kinds:
  coupon:
    priority: 1
    when:
      after: [view_cart]
      cart_value_cents: {min: 3000}
    offers:
      - id: ten
        payload: {discount_pct: 10}
    expires_after: 2h
"""


def with_line(number: int, text: str) -> str:
    """`SMALL` with one line replaced; several lines may take its place."""
    lines = SMALL.splitlines()
    lines[number - 1] = text
    return "\n".join(lines) + "\n"


def test_a_small_policy_is_read_with_its_defaults() -> None:
    policy = load_policy(SMALL, "small.yaml")

    [coupon] = policy.kinds
    assert (policy.name, policy.holdout_pct, policy.explore_pct) == ("small", 10.0, 0.0)
    assert coupon.rules.after == ("view_cart",)
    assert coupon.rules.cart_value_cents == Band(3000, None)
    assert coupon.offers[0].payload == (("discount_pct", 10),)
    assert coupon.expires_after_ms == 7_200_000
    assert not coupon.without_scores
    assert (coupon.caps, coupon.cool_down_ms) == ((), 0)


def test_every_field_has_its_meaning() -> None:
    policy = load_policy(
        """\
version: 1
name: all of it
holdout_pct: 2.5
holdout_salt: spring
explore_pct: 1
cool_down: 90s
caps: [{most: 9, per: 4w}, {most: 2, per: 1h}]
kinds:
  retention:
    priority: 5
    when:
      after: [search, page_view]
      session_events: {max: 3}
      session_number: {min: 2}
      session_age: {min: 1m, max: 1h}
      absence: {min: 14d}
      lifetime_events: {min: 10}
      revenue_cents: {min: -500}
      cart_value_cents: {max: 0}
      cart_pieces: {max: 0}
      session: {view_item: {min: 1}}
      lifetime: {purchase: {min: 1}}
      since: {purchase: {min: 30d}}
    scores:
      purchase: {max: 0.5}
      next.search: {min: 0.1, max: 0.9}
    without_scores: send
    offers: [{id: a}, {id: b, payload: {text: hello, big: true, share_pct: 2.5}}]
    offer_choice: uniform
    caps: [{most: 1, per: 7d}]
    cool_down: 0s
    expires_after: 1d
    attach: cart
""",
        "all.yaml",
    )

    [kind] = policy.kinds
    assert policy.caps == (Cap(2, 3_600_000), Cap(9, 4 * 604_800_000))
    assert policy.cool_down_ms == 90_000
    assert kind.rules.after == ("page_view", "search")
    assert kind.rules.session_age_ms == Band(60_000, 3_600_000)
    assert kind.rules.absence_ms == Band(14 * 86_400_000, None)
    assert kind.rules.revenue_cents == Band(-500, None)
    assert kind.rules.session_counts == (("view_item", Band(1, None)),)
    assert kind.rules.lifetime_counts == (("purchase", Band(1, None)),)
    assert kind.rules.since_ms == (("purchase", Band(30 * 86_400_000, None)),)
    assert kind.scores == (("next.search", Band(0.1, 0.9)), ("purchase", Band(None, 0.5)))
    assert (kind.without_scores, kind.draw_offer, kind.attach_cart) == (True, True, True)
    assert kind.offers[1].payload == (("big", True), ("share_pct", 2.5), ("text", "hello"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "the file is empty"),
        ("- a\n", 1, "the file is a list, must be a mapping of keys to values"),
        ("a: [1\n", 2, "the file is no YAML"),
        ("a: \x00\n", 1, "the file is no YAML"),
        ("a: &a [*a]\n", 1, "the file has more than 100000 values"),
        ("a: " + "[" * 3000 + "]" * 3000, 1, "the file is nested too deeply"),
        (with_line(1, "version: 2"), 1, "version is 2, must be 1"),
        (with_line(1, "version: one"), 1, "version is 'one', must be a whole number"),
        (with_line(1, ""), 2, "the file lacks version"),
        (with_line(2, "name: 2024-01-01\nname: x"), 3, "name stands here again, after line 2"),
        (with_line(2, "name: 5"), 2, "name is 5, must be a text; put it in quotes"),
        (with_line(3, "holdout: 5"), 3, "holdout is not a known key; did you mean holdout_pct?"),
        (with_line(3, "holdout_pct: 101"), 3, "holdout_pct is 101, not between 0.0 and 100.0"),
        (with_line(3, "holdout_pct: -1"), 3, "holdout_pct is -1, not between"),
        (with_line(3, "holdout_pct: .nan"), 3, "holdout_pct is .nan; write a plain number"),
        (with_line(3, "holdout_pct: 0x10"), 3, "holdout_pct is 0x10; write a plain number"),
        (with_line(3, "holdout_pct: 1:30"), 3, "holdout_pct is 1:30; write a plain number"),
        (with_line(3, "holdout_pct: true"), 3, "holdout_pct is true, must be a number"),
        (with_line(3, "holdout_pct: yes"), 3, "holdout_pct is yes; write true, false"),
        (with_line(3, "holdout_pct:"), 3, "holdout_pct is empty, must be a number"),
        (with_line(3, "<<: {holdout_pct: 5}"), 3, "<< is not a known key"),
        (with_line(3, "caps: {most: 1, per: 1d}"), 3, "caps is a mapping, must be a list"),
        (with_line(3, "caps: [{most: 1}]"), 3, "caps[0] lacks per"),
        (with_line(3, "caps: [{most: 0, per: 1d}]"), 3, "caps[0].most is 0, not between 1 and"),
        (with_line(3, "caps: [{most: 1, per: 0d}]"), 3, "caps[0].per is 0d, must be more than"),
        (with_line(3, "cool_down: 30"), 3, "cool_down is 30, must be a duration such as 90s"),
        (with_line(3, "cool_down: 1.5h"), 3, "cool_down is '1.5h', must be a duration"),
        (with_line(3, "cool_down: 99999d"), 3, "cool_down is 99999d, must be at least 0s and"),
        (with_line(5, "  cupon:"), 5, "kinds.cupon is not a known key; did you mean coupon?"),
        (with_line(6, ""), 5, "kinds.coupon lacks priority"),
        (with_line(6, "    priority: 1.5"), 6, "kinds.coupon.priority is 1.5, must be a whole"),
        (with_line(6, "    prioritie: 1"), 6, "did you mean priority?"),
        (with_line(8, "      after: []"), 8, "kinds.coupon.when.after needs at least one action"),
        (with_line(8, "      after: view_cart"), 8, "when.after is 'view_cart', must be a list"),
        (
            with_line(8, "      after:\n      - view_cart\n      - view_itme"),
            10,
            "when.after[1] is 'view_itme', no action; did you mean view_item?",
        ),
        (with_line(8, "      after: [search, search]"), 8, "when.after[1] is 'search' again"),
        (with_line(9, "      cart_value: {min: 1}"), 9, "did you mean cart_value_cents?"),
        (with_line(9, "      cart_value_cents: 5"), 9, "cart_value_cents is 5, must be a mapping"),
        (with_line(9, "      cart_value_cents: {}"), 9, "cart_value_cents needs min or max"),
        (with_line(9, "      cart_pieces: {least: 1}"), 9, "cart_pieces.least is not a known key"),
        (with_line(9, "      cart_pieces: {min: -1}"), 9, "cart_pieces.min is -1, not between 0"),
        (with_line(9, "      cart_pieces: {min: 3, max: 2}"), 9, "has a min above its max"),
        (with_line(9, "      absence: {min: 5}"), 9, "absence.min is 5, must be a duration"),
        (with_line(9, "      since: {bye: {min: 5m}}"), 9, "since.bye is not a known key"),
        (with_line(9, "    scores: {next.buy: {min: 0}}"), 9, "scores.next.buy is not a known"),
        (with_line(9, "    scores: {purchase: {min: 2}}"), 9, "scores.purchase.min is 2, not"),
        (with_line(9, "    without_scores: maybe"), 9, "without_scores is 'maybe', must be skip"),
        (with_line(9, "    attach: [cart]"), 9, "attach is a list, must be nothing or cart"),
        (with_line(11, "      - name: ten"), 11, "offers[0] lacks id"),
        (with_line(11, "      - id: Ten Percent"), 11, "offers[0].id is 'Ten Percent', must be"),
        (with_line(11, "      - id: ten\n      - id: ten"), 12, "the id of another offer"),
        (with_line(12, "        payload: {discount_pct: 110}"), 12, "discount_pct is 110, not"),
        (with_line(12, "        payload: {a: [1]}"), 12, "payload.a is a list, must be one scalar"),
        (with_line(13, "    expires_after: 0m"), 13, "expires_after is 0m, must be more than"),
        (with_line(13, "    expires_after: ~"), 13, "expires_after is empty, must be a duration"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, message: str) -> None:
    policy, mistakes = lint_policy(text)

    assert policy is None
    found = [str(mistake) for mistake in mistakes]
    assert any(each.startswith(f"{line}: ") and message in each for each in found), found


def test_all_mistakes_are_told_at_once_in_order_of_line() -> None:
    _, mistakes = lint_policy(
        SMALL.replace("version: 1", "version: 3")
        .replace("view_cart", "view_card")
        .replace("2h", "2 hours")
    )

    assert [mistake.line for mistake in mistakes] == [1, 8, 13]


def test_two_kinds_of_one_priority_are_a_mistake() -> None:
    second = SMALL.split("kinds:\n")[1].replace("coupon", "reminder")

    _, mistakes = lint_policy(SMALL + second)

    assert [str(m) for m in mistakes] == ["14: kinds.reminder has the priority of kinds.coupon"]


def test_loading_a_wrong_file_raises_one_sentence_with_file_and_line() -> None:
    with pytest.raises(ConfigError) as raised:
        load_policy(with_line(3, "holdout_pct: 200"), "my.yaml")

    assert str(raised.value) == "my.yaml:3: holdout_pct is 200, not between 0.0 and 100.0"


def test_a_policy_without_kinds_is_allowed() -> None:
    assert load_policy("version: 1\nname: nothing\nkinds: {}\n", "x").kinds == ()


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "# a comment\n",
        SMALL.replace("name: small", "name: renamed"),
        SMALL.replace("holdout_pct: 10", "holdout_pct: 10.0\nexplore_pct: 0\ncaps: []"),
        SMALL.replace("2h", "120m"),
        SMALL.replace("after: [view_cart]", "after: ['view_cart']"),
        SMALL + "    without_scores: skip\n    cool_down: 0s\n",
    ],
)
def test_the_digest_ignores_the_layout(text: str) -> None:
    assert load_policy(text, "a").digest == load_policy(SMALL, "b").digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("holdout_pct: 10", "holdout_pct: 11"),
        ("holdout_pct: 10", "holdout_pct: 10\nholdout_salt: x"),
        ("priority: 1", "priority: 2"),
        ("view_cart", "view_item"),
        ("3000", "3001"),
        ("id: ten", "id: tenth"),
        ("discount_pct: 10", "discount_pct: 11"),
        ("2h", "3h"),
    ],
)
def test_the_digest_changes_with_the_meaning(old: str, new: str) -> None:
    assert load_policy(SMALL.replace(old, new), "a").digest != load_policy(SMALL, "b").digest


def test_the_default_policy_has_the_six_first_kinds() -> None:
    policy = default_policy()

    assert {kind.name for kind in policy.kinds} == set(KINDS[:6])
    assert [kind.priority for kind in policy.kinds] == sorted(
        (kind.priority for kind in policy.kinds), reverse=True
    )
    assert all(kind.caps for kind in policy.kinds)
    assert 0 < policy.holdout_pct < 20
    assert 0 < policy.explore_pct < 10


def test_the_default_policy_has_nothing_that_lint_minds() -> None:
    policy, mistakes = lint_policy(default_policy_text())

    assert not mistakes
    assert policy == default_policy()


def test_records_refuse_what_no_file_could_say() -> None:
    [kind] = load_policy(SMALL, "x").kinds

    with pytest.raises(ConfigError):
        Policy(name="x", kinds=(kind, kind))
    with pytest.raises(ConfigError):
        Policy(name="x", kinds=(), holdout_pct=101)
