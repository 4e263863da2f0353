"""Ids and draws are part of what is stored and sent: their values must never change."""

from hypothesis import given
from hypothesis import strategies as st

from clickpath.ids import decision_id, derived_event_id, draw, event_hash, token_hash


def test_ids_and_draws_are_what_they_were_when_they_were_first_stored() -> None:
    assert decision_id("ada", "e-1") == "ef0c888367cdb04df8f6ea7acbe26fd1"
    assert derived_event_id("ada", "e-1") == "3e55e3bf27f2cdb4dc6b93e1d8b75262"
    assert draw("holdout", "ada") == 0.9620618425366668
    assert event_hash("e-1") == 9_009_936_741_019_177_910
    assert token_hash("shoe") == 8_763_825_074_659_090_938


def test_parts_are_kept_apart() -> None:
    assert decision_id("ab", "c") != decision_id("a", "bc")
    assert derived_event_id("a", "") != derived_event_id("a")
    assert draw("a", "b", "c") != draw("a", "bc")


def test_what_is_derived_for_one_purpose_says_nothing_about_another() -> None:
    assert decision_id("ada", "e-1") != derived_event_id("ada", "e-1")
    assert event_hash("shoe") != token_hash("shoe")


@given(st.text(max_size=20))
def test_hashes_have_63_bits_and_a_token_is_never_none(text: str) -> None:
    assert 0 <= event_hash(text) < 1 << 63
    assert 0 < token_hash(text) < 1 << 63


@given(st.lists(st.text(max_size=5), max_size=3))
def test_a_draw_is_in_the_unit_interval_and_always_the_same(parts: list[str]) -> None:
    assert 0 <= draw("x", *parts) < 1
    assert draw("x", *parts) == draw("x", *parts)


def test_draws_are_spread_evenly() -> None:
    draws = [draw("even", str(n)) for n in range(2_000)]
    assert 0.48 < sum(draws) / len(draws) < 0.52
    assert all(150 < sum(n / 10 <= d < (n + 1) / 10 for d in draws) < 250 for n in range(10))
