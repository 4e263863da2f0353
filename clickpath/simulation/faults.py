"""What goes wrong between a producer and the worker: copies, disorder, broken records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from clickpath.errors import UsageError
from clickpath.events import Click
from clickpath.simulation.draws import Draws

#: A copy follows its original after at most this many other clicks.
_COPY_DELAY: Final = 16
_CENTURY_MS: Final = 100 * 365 * 24 * 3_600_000


def with_duplicates(clicks: Iterable[Click], share: float, seed: int) -> Iterator[Click]:
    """The clicks, and copies of a share of them a little later.

    Args:
        clicks: In any order.
        share: Probability that a click is sent twice, from 0 to 1.
        seed: Which ones.

    Yields:
        Every click, and each copy at most 16 originals after its original.
    """
    draws = Draws(seed, 1)
    copies: list[tuple[int, int, Click]] = []
    for place, click in enumerate(clicks):
        yield click
        if draws.unit() < share:
            heappush(copies, (place + draws.below(_COPY_DELAY + 1), place, click))
        while copies and copies[0][0] <= place:
            yield heappop(copies)[2]
    while copies:
        yield heappop(copies)[2]


def shuffled_within(clicks: Iterable[Click], lateness_ms: int, seed: int) -> Iterator[Click]:
    """The clicks in another order, in which none of them is late.

    Each is delayed by up to `lateness_ms`; whatever arrives before it is then at most that much
    newer, for its user and for all others.

    Args:
        clicks: In order of time.
        lateness_ms: The lateness bound of the window.
        seed: Which order.

    Yields:
        The same clicks. Memory is bounded by the clicks of `lateness_ms`.
    """
    draws = Draws(seed, 2)
    waiting: list[tuple[int, int, Click]] = []
    for place, click in enumerate(clicks):
        while waiting and waiting[0][0] < click.ts_ms:
            yield heappop(waiting)[2]
        heappush(waiting, (click.ts_ms + draws.below(lateness_ms + 1), place, click))
    while waiting:
        yield heappop(waiting)[2]


class Sent(NamedTuple):
    """One record as it is sent.

    Attributes:
        value: The payload.
        code: The reason code that the worker must answer it with; None for a good record.
        original: The payload before it was broken; the same object for a good record.
    """

    value: bytes
    code: str | None
    original: bytes


def _with(field: str, value: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: _json({**event, field: value})


def _json(event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


#: How a canonical JSON event is broken so that the worker must answer with a reason code. The codes
#: that depend on headers (`unknown_content_type`, `not_msgpack`) are not among them.
FAULTS: Final[dict[str, Callable[[dict[str, Any]], bytes]]] = {
    "empty": lambda _: b"",
    "too_large": _with("note", "x" * (1 << 20)),
    "not_utf8": lambda event: _json(event).replace(b'"event_id":"', b'"event_id":"\xff\xfe', 1),
    "not_json": lambda event: _json(event)[:-1],
    "not_an_event": lambda _: b'{"hello":"world"}',
    "missing_field": lambda event: _json({k: v for k, v in event.items() if k != "user_id"}),
    "wrong_type": _with("items", "three"),
    "not_finite": _with("value_cents", float("nan")),
    "negative_price": _with("value_cents", -500),
    "out_of_range": lambda event: _json({**event, "event_id": "e" * 300}),
    "bad_timestamp": _with("ts_ms", -1),
    "future_timestamp": lambda event: _json({**event, "ts_ms": event["ts_ms"] + _CENTURY_MS}),
}

#: The faults that a broker with its usual limit of 1 MiB lets through.
SENDABLE_FAULTS: Final = tuple(code for code in FAULTS if code != "too_large")


def with_broken(
    records: Iterable[bytes], share: float, seed: int, codes: tuple[str, ...] = SENDABLE_FAULTS
) -> Iterator[Sent]:
    """The records, a share of them broken, each in one of the ways that have a reason code.

    Args:
        records: Canonical JSON events.
        share: Probability that a record is broken, from 0 to 1.
        seed: Which ones, and how.
        codes: The ways to choose from, keys of `FAULTS`.

    Raises:
        UsageError: A code that nobody knows how to provoke.
    """
    if unknown := [code for code in codes if code not in FAULTS]:
        raise UsageError(f"no fault is known for {unknown[0]!r}")
    draws = Draws(seed, 3)
    for record in records:
        if draws.unit() < share:
            code = codes[draws.below(len(codes))]
            yield Sent(FAULTS[code](json.loads(record)), code, record)
        else:
            yield Sent(record, None, record)


def with_stragglers(
    clicks: Iterable[Click], share: float, delay_ms: int, seed: int
) -> Iterator[Click]:
    """The clicks, a share of them only after everything that is up to `delay_ms` newer.

    Args:
        clicks: In order of time.
        share: Probability that a click is held up, from 0 to 1.
        delay_ms: For how long, in event time.
        seed: Which ones.

    Yields:
        The same clicks. Memory is bounded by the clicks that are held up.
    """
    draws = Draws(seed, 4)
    held: list[tuple[int, int, Click]] = []
    for place, click in enumerate(clicks):
        while held and held[0][0] < click.ts_ms:
            yield heappop(held)[2]
        if draws.unit() < share:
            heappush(held, (click.ts_ms + delay_ms, place, click))
        else:
            yield click
    while held:
        yield heappop(held)[2]
