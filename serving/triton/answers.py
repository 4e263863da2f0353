"""What Triton's errors mean here.

Several failures have one status, UNAVAILABLE: a full queue, a request that waited too long in it, a
model that is not loaded, a server that is not there, an admin key that was refused. Its messages
tell them apart, so the table looks at both. The first row that fits counts.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from clickpath.errors import (
    PredictorError,
    PredictorOverloaded,
    PredictorRefused,
    PredictorTimeout,
    PredictorUnavailable,
)


class Meaning(Enum):
    """What went wrong, as far as the caller minds; the value is the label of a metric."""

    OVERLOAD = "overload"
    QUEUE_TIMEOUT = "queue_timeout"
    DEADLINE = "deadline"
    NOT_READY = "not_ready"
    KEY_REFUSED = "key_refused"
    BAD_INPUT = "bad_input"
    NO_CONNECTION = "no_connection"
    CANCELLED = "cancelled"
    FAILED = "failed"


class _Row(NamedTuple):
    status: str
    """Name of the gRPC status."""
    fragment: str
    """Of the message, in lower case."""
    meaning: Meaning


_TABLE: Final = (
    _Row("UNAVAILABLE", "exceeds maximum queue size", Meaning.OVERLOAD),
    _Row("UNAVAILABLE", "request timeout expired", Meaning.QUEUE_TIMEOUT),
    _Row("UNAVAILABLE", "this protocol is restricted", Meaning.KEY_REFUSED),
    _Row("UNAVAILABLE", "unknown model", Meaning.NOT_READY),
    _Row("UNAVAILABLE", "is not at ready state", Meaning.NOT_READY),
    _Row("UNAVAILABLE", "is not ready", Meaning.NOT_READY),
    _Row("UNAVAILABLE", "has no available versions", Meaning.NOT_READY),
    _Row("UNAVAILABLE", "server is stopping", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "server not ready", Meaning.NOT_READY),
    # What gRPC itself says of a connection: none of these calls was answered.
    _Row("UNAVAILABLE", "connect", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "socket closed", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "goaway", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "name resolution", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "dns", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "keepalive", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "handshake", Meaning.NO_CONNECTION),
    _Row("UNAVAILABLE", "", Meaning.FAILED),
    _Row("DEADLINE_EXCEEDED", "", Meaning.DEADLINE),
    _Row("NOT_FOUND", "", Meaning.NOT_READY),
    _Row("INVALID_ARGUMENT", "", Meaning.BAD_INPUT),
    _Row("OUT_OF_RANGE", "", Meaning.BAD_INPUT),
    _Row("RESOURCE_EXHAUSTED", "larger than max", Meaning.BAD_INPUT),
    _Row("RESOURCE_EXHAUSTED", "", Meaning.OVERLOAD),
    _Row("UNAUTHENTICATED", "", Meaning.KEY_REFUSED),
    _Row("PERMISSION_DENIED", "", Meaning.KEY_REFUSED),
    _Row("CANCELLED", "", Meaning.CANCELLED),
    _Row("ABORTED", "", Meaning.FAILED),
    _Row("ALREADY_EXISTS", "", Meaning.FAILED),
    _Row("DATA_LOSS", "", Meaning.FAILED),
    _Row("FAILED_PRECONDITION", "", Meaning.FAILED),
    _Row("INTERNAL", "", Meaning.FAILED),
    _Row("UNIMPLEMENTED", "", Meaning.FAILED),
    _Row("UNKNOWN", "", Meaning.FAILED),
)

_ERRORS: Final[dict[Meaning, type[PredictorError]]] = {
    Meaning.OVERLOAD: PredictorOverloaded,
    Meaning.QUEUE_TIMEOUT: PredictorTimeout,
    Meaning.DEADLINE: PredictorTimeout,
    Meaning.BAD_INPUT: PredictorRefused,
}


def meaning_of(status: str | None, message: str | None) -> Meaning:
    """What an error means.

    Args:
        status: As tritonclient says it, `StatusCode.UNAVAILABLE`; None for its own complaints.
        message: What came with it.
    """
    name = (status or "").removeprefix("StatusCode.")
    said = (message or "").lower()
    for row in _TABLE:
        if row.status == name and row.fragment in said:
            return row.meaning
    # Without a status it is a complaint of tritonclient's about what it was given.
    return Meaning.BAD_INPUT if not name else Meaning.FAILED


def error_of(meaning: Meaning, message: str) -> PredictorError:
    """The error of a call for scores."""
    return _ERRORS.get(meaning, PredictorUnavailable)(message)


def may_repeat(meaning: Meaning) -> bool:
    """Whether the same call may be sent once more.

    Scores have no side effect, so it is safe for all of them, but of use only where another
    server, or a new connection, may answer: what is overloaded or late would only get worse.
    """
    return meaning is Meaning.NO_CONNECTION


def speaks_of_health(meaning: Meaning) -> bool:
    """Whether a failure says that the server is not well, and not that the question was not."""
    return meaning not in (Meaning.BAD_INPUT, Meaning.CANCELLED)
