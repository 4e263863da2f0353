"""Pseudonyms: the same for the same key, told apart by keys, and no way back."""

import hashlib
import hmac
from base64 import b32encode

import pytest

from clickpath.errors import BadEvent, ConfigError
from clickpath.pseudonym import is_pseudonym, open_edge, pseudonyms

KEY = b"0123456789abcdef"


def test_a_pseudonym_is_what_the_document_says_so_that_any_language_can_make_it() -> None:
    message = b"clickpath pseudonym v1\x00" + "zoë".encode()
    digest = hmac.new(KEY, message, hashlib.sha256).digest()[:16]

    assert pseudonyms(KEY)("zoë") == "p1-" + b32encode(digest).decode().rstrip("=").lower()


def test_users_and_keys_have_pseudonyms_of_their_own() -> None:
    one, other = pseudonyms(KEY), pseudonyms(b"another key that is long")

    assert len({one("a"), one("b"), other("a"), other("b")}) == 4
    assert one("a") == pseudonyms(KEY)("a")


def test_a_pseudonym_stays_what_it_is() -> None:
    edge = pseudonyms(KEY)

    assert is_pseudonym(edge("a"))
    assert edge(edge("a")) == edge("a")


def test_with_a_key_an_address_is_an_id_like_any_other_and_without_one_it_is_refused() -> None:
    assert is_pseudonym(pseudonyms(KEY)("bob@example.com"))
    with pytest.raises(BadEvent, match=r"^user_id: looks like an e-mail address$") as refused:
        open_edge("bob@example.com")
    assert refused.value.code == "personal_data"


def test_a_short_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match="a key of 5 bytes is too short") as refused:
        pseudonyms(b"s3cr3")
    assert "s3cr3" not in str(refused.value)
