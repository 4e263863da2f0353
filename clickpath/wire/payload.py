"""From bytes to plain values: strict JSON (RFC 8259) and msgpack.

What is stricter or looser than the reader might expect:

-   Of duplicate keys the last one counts, in both formats.
-   A leading byte order mark is skipped.
-   NaN and Infinity are no JSON. They are told apart from other mistakes, with their place.
-   Lone surrogates are refused: no text that leaves here fails to encode.
-   JSON nests at most 200 deep, and a number has at most 4,300 digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Final

import msgpack
from pydantic_core import from_json

from clickpath.errors import BadEvent

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MOST_MESSAGE_BYTES: Final = 64 << 20
_MOST_SHOWN_CHARS: Final = 60
_MOST_SHOWN_BITS: Final = 128


def read_json(raw: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        BadEvent: `not_utf8`, `not_finite`, `out_of_range` or `not_json`.
    """
    try:
        # The same keys come in every event, and the same values seldom.
        return from_json(raw, allow_inf_nan=False, cache_strings="keys")
    except ValueError as problem:
        if raw.startswith(_BYTE_ORDER_MARK):
            return _read_marked(raw.removeprefix(_BYTE_ORDER_MARK))
        raise _json_problem(raw, problem) from problem


def _read_marked(raw: bytes) -> Any:
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as problem:
        raise _json_problem(raw, problem) from problem


def _json_problem(raw: bytes, problem: ValueError) -> BadEvent:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadEvent("not_utf8", f"byte {error.start} is no UTF-8: {error.reason}")
    message = str(problem)
    if message.startswith("recursion limit"):
        return BadEvent("out_of_range", f"nested too deep: {message}")
    if message.startswith("number out of range"):
        return BadEvent("out_of_range", f"a number too long: {message}")
    try:
        lenient = from_json(raw, allow_inf_nan=True)
    except ValueError:
        return BadEvent("not_json", message)
    place, number = _not_finite(lenient)
    return BadEvent("not_finite", f"{number} is no JSON", place)


def _not_finite(value: Any) -> tuple[str, float]:
    """Place and value of a number in a JSON value that is not finite."""
    waiting = [("", value)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not isfinite(value):
            return place, value
        if isinstance(value, dict):
            waiting += [(f"{place}.{key}" if place else key, each) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{place}[{n}]", each) for n, each in enumerate(value)]
    raise AssertionError("refused for a number that is not finite, and there is none")


def read_msgpack(raw: bytes) -> Any:
    """The value of a msgpack message.

    Raises:
        BadEvent: `not_utf8` or `not_msgpack`.
    """
    try:
        return msgpack.unpackb(raw)
    except UnicodeDecodeError as error:
        raise BadEvent("not_utf8", f"a text of the message is no UTF-8: {error.reason}") from error
    except (ValueError, msgpack.UnpackException) as error:
        raise BadEvent("not_msgpack", str(error) or type(error).__name__) from error


def split_msgpack(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The messages of a file of msgpack messages without anything between them, as bytes.

    Args:
        chunks: The file, in pieces of any size.

    Yields:
        The bytes of each message; at last, what remains of a message that was cut off.

    Raises:
        BadEvent: `not_msgpack` where the file cannot be split any further, or `too_large`.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=_MOST_MESSAGE_BYTES)
    pending = bytearray()
    begin = 0
    for chunk in chunks:
        if len(pending) > _MOST_MESSAGE_BYTES - len(chunk):
            raise BadEvent("too_large", f"the message at byte {begin} does not end")
        pending += chunk
        unpacker.feed(chunk)
        while pending:
            try:
                unpacker.skip()
            except msgpack.OutOfData:
                break
            except (ValueError, msgpack.UnpackException) as error:
                raise BadEvent("not_msgpack", f"at byte {begin}: {error!r}") from error
            size_bytes = unpacker.tell() - begin
            yield bytes(pending[:size_bytes])
            del pending[:size_bytes]
            begin += size_bytes
    if pending:
        yield bytes(pending)


def shown(value: object) -> str:
    """A value as an error message shows it: never long, and never failing."""
    if isinstance(value, int) and value.bit_length() > _MOST_SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, dict):
        return f"a map of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str | bytes) and len(value) > _MOST_SHOWN_CHARS:
        return f"{value[:24]!r}... (length {len(value)})"
    text = repr(value)
    return text if len(text) <= 2 * _MOST_SHOWN_CHARS else f"{text[:_MOST_SHOWN_CHARS]}..."
