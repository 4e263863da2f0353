"""Every error of Clickpath, grouped by what the caller does about it.

::

    ClickpathError
    |-- BadEvent              dead-letter the record and go on
    |-- PredictorError        fall back to the policy that needs no scores
    |   |-- PredictorTimeout
    |   |-- PredictorRefused
    |   `-- PredictorUnavailable
    |       `-- PredictorOverloaded
    `-- FatalError            stop, with one sentence for the operator
        |-- UsageError        wrong command line, file or address
        |-- ConfigError       wrong settings or policy file
        |-- ModelMismatch     the model does not fit the encoder or its own card
        `-- StateError        a stored state cannot be read
            `-- NewerVersion  a newer release wrote it
"""

from __future__ import annotations


class ClickpathError(Exception):
    """The root of the tree; the message is one sentence for a person."""

    exit_code = 1


class BadEvent(ClickpathError):
    """A record that is not a click event.

    Args:
        code: The stable reason, one of `BAD_EVENT_CODES`.
        message: What is wrong, with the value that is wrong.
        field: The place, as a dotted path; empty when it is the whole record.
    """

    def __init__(self, code: str, message: str, field: str = "") -> None:
        assert code in BAD_EVENT_CODES, code
        super().__init__(f"{field}: {message}" if field else message)
        self.code = code
        self.field = field


#: The reason codes of a dead letter. They are part of the public contract: never rename one.
BAD_EVENT_CODES = frozenset(
    {
        "empty",  # no payload at all
        "too_large",  # over 1 MiB
        "not_utf8",  # bytes that are no UTF-8 text
        "not_json",  # text that is no JSON
        "not_msgpack",  # announced or sniffed as msgpack, and is none
        "not_an_event",  # parsed, but of none of the known shapes
        "unknown_content_type",  # a content type that nobody here reads
        "unknown_version",  # a major version from the future
        "missing_field",  # a required field is absent or empty
        "wrong_type",  # a field of the wrong type
        "not_finite",  # NaN or an infinity
        "negative_price",  # a price, value or quantity below zero
        "out_of_range",  # a number or text beyond its limit
        "bad_timestamp",  # a time that cannot be read
        "future_timestamp",  # a time further ahead of now than clocks drift
        "personal_data",  # an id that looks like an e-mail address, a phone number or a card
        "header_not_utf8",  # a header whose name is no UTF-8 text
        "bad_checksum",  # a batch of records whose bytes are not those that were sent
        "bad_compression",  # a batch that cannot be decompressed, or would become too large
        "bad_batch",  # a batch that is not what it says of itself
    }
)


class PredictorError(ClickpathError):
    """The model gave no answer; the fallback policy decides."""

    reason = "predictor_error"


class PredictorTimeout(PredictorError):
    """The model did not answer before the deadline."""

    reason = "predictor_timeout"


class PredictorUnavailable(PredictorError):
    """The model cannot be asked at present."""

    reason = "predictor_unavailable"


class PredictorOverloaded(PredictorUnavailable):
    """The model has more questions waiting than it takes; asking again makes it worse."""

    reason = "predictor_overloaded"


class PredictorRefused(PredictorError):
    """The model does not accept what it was given."""

    reason = "predictor_refused"


class FatalError(ClickpathError):
    """The program cannot go on; a person has to act."""


class UsageError(FatalError):
    """A mistake on the command line, or in what it names."""

    exit_code = 2


class ConfigError(FatalError):
    """Settings or a policy file that cannot be accepted."""

    exit_code = 2


class ModelMismatch(FatalError):
    """A model whose fingerprints do not fit; nothing is scored with it."""


class StateError(FatalError):
    """A stored state that this version cannot read."""


class NewerVersion(StateError):
    """A record of a newer release; to pass over it, or to write in its place, would lose it."""
