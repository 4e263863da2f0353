"""From records to rows, by the worker's own rules; no broker and no archive is known here."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgpack

from clickpath.erasure import Request, mark_of, request_of
from clickpath.errors import BadEvent, NewerVersion, StateError
from clickpath.ids import event_hash
from clickpath.ledger import EMPTY_LEDGER
from clickpath.pseudonym import Edge, behind, open_edge
from clickpath.window import EMPTY_PATH, Verdict, Window, push
from clickpath.wire import parse
from clickpath.wire.state import NEW_USER, UserState
from stream.archive.columns import (
    Origin,
    Row,
    click_row,
    decision_fields,
    decision_row,
    erasure_row,
)
from stream.batch.records import Chunk, RawRecord
from stream.cause import Cause, cause_of
from stream.erasing import receipt_of

logger = logging.getLogger(__name__)

Clock = Callable[[], int]


UNKNOWN: Final = Cause(-1, -1)


class Last(NamedTuple):
    """The newest decision of a user that was archived.

    Attributes:
        stamp: Its offset on the decisions topic.
        now_ms: Its event time.
        event: The hash of the event that caused it.
        cause: The place of that event on the clicks topic; (-1, -1) where the record did not say.
    """

    stamp: int
    now_ms: int
    event: int
    cause: Cause = UNKNOWN


NOTHING: Final = Last(-1, -1, -1)


def dump_last(last: Last) -> bytes:
    """The bytes of a value of the table of decisions."""
    *numbers, cause = last
    packed: bytes = msgpack.packb((2, *numbers, *cause))
    return packed


def load_last(raw: bytes) -> Last:
    """The value in the bytes.

    Raises:
        StateError: They are none, or of another version.
    """
    try:
        version, *fields = msgpack.unpackb(raw)
        if version not in (1, 2):
            raise NewerVersion(
                f"a stored state of the archive has version {version}, 2 is the newest"
            )
        stamp, now_ms, event, *cause = fields
        return Last(stamp, now_ms, event, Cause(*cause) if cause else UNKNOWN)
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise StateError(f"a stored state of the archive cannot be read: {error}") from error


def read_clicks(
    chunk: Chunk,
    users: Mapping[bytes, UserState],
    *,
    window: Window,
    max_future_ms: int,
    clock: Clock,
    counts: Counter[str],
    edge: Edge = open_edge,
) -> tuple[list[Row], dict[bytes, UserState | None]]:
    """The rows of the accepted clicks of a chunk, and the new states of their users.

    Args:
        chunk: Records of one partition of the clicks topic.
        users: The states of the partition's users; only read.
        window: The worker's window.
        max_future_ms: How far ahead of its record an event time may be.
        clock: The present in epoch milliseconds, for records without a timestamp.
        counts: Takes what became of the records.
        edge: The worker's edge.
    """
    rows: list[Row] = []
    changed: dict[bytes, UserState | None] = {}
    for record in chunk.records:
        now_ms = record.timestamp_ms if record.timestamp_ms > 0 else clock()
        try:
            click = parse(record.value, record.headers, now_ms, max_future_ms)
            click = behind(edge, click)
        except BadEvent:
            request = request_of(record.value, record.headers)
            if request is None:
                counts["dead_letters"] += 1
            else:
                _erase(request, record.offset, users, changed)
            continue
        key = click.user_id.encode("utf-8")
        user = (changed[key] if key in changed else users.get(key)) or NEW_USER
        if record.offset <= user.stamp:
            counts["skipped"] += 1
            continue
        path, verdict = push(user.path, click, window)
        if not verdict.accepted:
            counts["duplicates" if verdict is Verdict.DUPLICATE else "late"] += 1
            continue
        counts["accepted"] += 1
        changed[key] = UserState(record.offset, path, EMPTY_LEDGER)
        rows.append(click_row(click, _origin(chunk, record)))
    return rows, changed


def _erase(
    request: Request,
    offset: int,
    users: Mapping[bytes, UserState],
    changed: dict[bytes, UserState | None],
) -> None:
    """The worker's steps of an erasure, on the archive's own states."""
    key = request.user_id.encode("utf-8")
    state = changed[key] if key in changed else users.get(key)
    if state is None or offset <= state.stamp:
        return
    if request.step == "erase":
        changed[key] = UserState(offset, EMPTY_PATH, EMPTY_LEDGER)
    elif state.path == EMPTY_PATH:
        changed[key] = None


def read_decisions(
    chunk: Chunk, users: Mapping[bytes, Last], counts: Counter[str]
) -> tuple[list[Row], dict[bytes, Last | None]]:
    """The rows of the decisions of a chunk that are no repetitions, and their users' new states.

    A record that is no decision is counted, logged with its place, and left out. Of an erased user
    the place of the request is kept, under the user's mark: what was decided before it, and comes
    behind the tombstone because a crash repeated it, is not taken for a decision about a new path.
    """
    rows: list[Row] = []
    changed: dict[bytes, Last | None] = {}

    def known(key: bytes) -> Last | None:
        return changed[key] if key in changed else users.get(key)

    for record in chunk.records:
        cause = cause_of(record.headers) or UNKNOWN
        if record.value is None and record.key is not None:
            mark = _mark_key(record.key, cause)
            last = known(record.key) or known(mark) or NOTHING
            # A crash repeats tombstones, too: what is known may have come behind this one.
            if last.cause.partition != cause.partition or last.cause.offset <= cause.offset:
                changed[record.key] = None
                changed[mark] = Last(record.offset, -1, -1, cause)
            continue
        origin = _origin(chunk, record)
        try:
            fields = decision_fields(record.value)
            row = decision_row(fields, record.value or b"", origin)
        except StateError as error:
            logger.warning("%s[%d], offset %d: %s", *origin[1:], error)
            counts["refused"] += 1
            continue
        key = fields.user_id.encode("utf-8")
        last = known(key) or known(_mark_key(key, cause)) or NOTHING
        if record.offset <= last.stamp:
            counts["skipped"] += 1
            continue
        event = event_hash(fields.event_id)
        if not _is_new(fields.now_ms, event, cause, last):
            counts["repeated"] += 1
            continue
        counts["decisions"] += 1
        changed[key] = Last(record.offset, fields.now_ms, event, cause)
        rows.append(row)
    return rows, changed


def _mark_key(key: bytes, cause: Cause) -> bytes:
    """Where it is kept that a user was erased in a partition; no user has such a key."""
    return b"\xff%s:%d" % (mark_of(key.decode("utf-8", "replace")).encode(), cause.partition)


def _is_new(now_ms: int, event: int, cause: Cause, last: Last) -> bool:
    """Whether a decision is not a repetition; an older worker does not say what caused it."""
    if cause.partition == last.cause.partition and cause is not UNKNOWN:
        return cause.offset > last.cause.offset
    return (now_ms, event) > (last.now_ms, last.event)


def read_erasures(chunk: Chunk, counts: Counter[str]) -> list[Row]:
    """The rows of the receipts of a chunk.

    Raises:
        NewerVersion: A newer release erased somebody.
    """
    rows: list[Row] = []
    for record in chunk.records:
        origin = _origin(chunk, record)
        try:
            receipt = receipt_of(record.value)
        except NewerVersion:
            # Who was erased must not stay in the archive.
            raise
        except StateError as error:
            logger.warning("%s[%d], offset %d: %s", *origin[1:], error)
            counts["refused"] += 1
            continue
        counts["erasures"] += 1
        rows.append(erasure_row(receipt, origin))
    return rows


def _origin(chunk: Chunk, record: RawRecord) -> Origin:
    return Origin(record.timestamp_ms, chunk.topic, chunk.partition, record.offset)
