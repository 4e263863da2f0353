"""What Triton's errors mean: the table covers every status, and tells equal ones apart."""

from __future__ import annotations

import grpc
import pytest

from clickpath.errors import (
    PredictorOverloaded,
    PredictorRefused,
    PredictorTimeout,
    PredictorUnavailable,
)
from serving.triton.answers import (
    _TABLE,
    Meaning,
    error_of,
    may_repeat,
    meaning_of,
    speaks_of_health,
)


def test_every_status_of_grpc_is_in_the_table_but_ok() -> None:
    assert {row.status for row in _TABLE} == {
        code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK
    }


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_status_has_a_meaning_whatever_the_message(code: grpc.StatusCode) -> None:
    assert meaning_of(str(code), None) in Meaning
    assert meaning_of(str(code), "something new") is not None


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("Exceeds maximum queue size", Meaning.OVERLOAD),
        ("[request id: 7] Exceeds maximum queue size", Meaning.OVERLOAD),
        ("Request timeout expired", Meaning.QUEUE_TIMEOUT),
        (
            "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'",
            Meaning.KEY_REFUSED,
        ),
        ("Request for unknown model: 'm' version 9 is not at ready state", Meaning.NOT_READY),
        ("failed to connect to all addresses; last error: UNKNOWN", Meaning.NO_CONNECTION),
        ("Socket closed", Meaning.NO_CONNECTION),
        ("recvmsg:Connection reset by peer", Meaning.NO_CONNECTION),
        ("DNS resolution failed for triton:8001", Meaning.NO_CONNECTION),
        ("something that nobody has seen", Meaning.FAILED),
    ],
)
def test_unavailable_is_told_apart_by_its_message(message: str, meaning: Meaning) -> None:
    assert meaning_of("StatusCode.UNAVAILABLE", message) is meaning


def test_each_meaning_becomes_an_error_after_which_the_fallback_decides() -> None:
    assert type(error_of(Meaning.OVERLOAD, "")) is PredictorOverloaded
    assert type(error_of(Meaning.QUEUE_TIMEOUT, "")) is PredictorTimeout
    assert type(error_of(Meaning.DEADLINE, "")) is PredictorTimeout
    assert type(error_of(Meaning.BAD_INPUT, "")) is PredictorRefused
    others = set(Meaning) - {
        *(Meaning.OVERLOAD, Meaning.QUEUE_TIMEOUT, Meaning.DEADLINE, Meaning.BAD_INPUT)
    }
    assert {type(error_of(meaning, "")) for meaning in others} == {PredictorUnavailable}


def test_only_a_call_that_nobody_answered_is_sent_again() -> None:
    assert [meaning for meaning in Meaning if may_repeat(meaning)] == [Meaning.NO_CONNECTION]


def test_a_bad_question_does_not_speak_against_the_server() -> None:
    assert {meaning for meaning in Meaning if not speaks_of_health(meaning)} == {
        Meaning.BAD_INPUT,
        Meaning.CANCELLED,
    }
