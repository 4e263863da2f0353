"""States as msgpack bytes: of a path, and of everything the worker keeps about one user.

Path, schema version 3: `[3, settled, hashes, numbers, lines, base]`. Steps are bytes, big endian:
`hashes` has eight for each, `numbers` the 41 of `steps.pack_numbers`; `lines` has pairs of a step's
place and its cart lines, for those with some. `base` is the array of the fields of
`summary.Summary` in their order. The bytes are canonical: equal paths have equal bytes. `tip`
follows from the rest and is not stored. Version 2 was `[2, settled, steps, base]`, with steps as
arrays of the fields of `steps.Step`; version 1 had no `absence_ms` in base.

User, schema version 1: `[1, stamp, path, ledger]` with `path` as above, in one message.

A reader upgrades a path or a user of an older version step by step through `_PATH_UPGRADES` and
`_USER_UPGRADES`; one from a newer version is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Any, Final, NamedTuple

import msgpack

from clickpath.errors import NewerVersion, StateError
from clickpath.ledger import EMPTY_LEDGER, Ledger, Sent
from clickpath.steps import Line, pack_hashes, pack_numbers, unpack_steps
from clickpath.summary import NO_ABSENCE, Summary
from clickpath.vocabulary import ACTION_COUNT
from clickpath.window import EMPTY_PATH, PathState, Window, path_of

PATH_VERSION: Final = 3
USER_VERSION: Final = 1

#: The stamp of a user of whom no record has been applied.
NOTHING_APPLIED: Final = -1

Upgrade = Callable[[list[Any]], list[Any]]


def _with_absence(fields: list[Any]) -> list[Any]:
    """Version 1 did not keep the absence; it is not known until the next session begins."""
    _, settled, steps, base = fields
    return [2, settled, steps, [*base[:4], NO_ABSENCE, *base[4:]]]


def _in_bytes(fields: list[Any]) -> list[Any]:
    """Version 2 had each step as an array of its fields, the cart lines last."""
    _, settled, steps, base = fields
    lines = [[n, step[-1]] for n, step in enumerate(steps) if step[-1]]
    return [3, settled, pack_hashes(steps), b"".join(map(pack_numbers, steps)), lines, base]


#: From version n to n + 1, by n.
_PATH_UPGRADES: Final[dict[int, Upgrade]] = {1: _with_absence, 2: _in_bytes}
_USER_UPGRADES: Final[dict[int, Upgrade]] = {}

#: What comes of fields of the wrong number, type or size.
_WRONG_SHAPE: Final = (TypeError, ValueError, LookupError, StructError)


class UserState(NamedTuple):
    """Everything the worker keeps about one user.

    Attributes:
        stamp: Offset, in the source partition, of the last record applied. A record at or below
            it has been applied already, outputs included.
        path: The event-time path.
        ledger: What the user has been sent.
    """

    stamp: int
    path: PathState
    ledger: Ledger


NEW_USER: Final = UserState(NOTHING_APPLIED, EMPTY_PATH, EMPTY_LEDGER)


def dump_path(path: PathState) -> bytes:
    """The canonical bytes of a path."""
    packed: bytes = msgpack.packb(_stored(path))
    return packed


def load_path(raw: bytes, window: Window) -> PathState:
    """The path in the bytes.

    Raises:
        StateError: The bytes are no path, or of a version from the future.
    """
    return _path_of(_unpack(raw, "path"), window)


def dump_user(user: UserState) -> bytes:
    """The bytes of a user's state, as they stand in the changelog."""
    packed: bytes = msgpack.packb((USER_VERSION, user.stamp, _stored(user.path), user.ledger))
    return packed


def _stored(path: PathState) -> tuple[Any, ...]:
    steps, settled, base, _, hashes, numbers, pending_lines = path
    lines: list[tuple[int, tuple[Line, ...]]] = []
    if pending_lines:
        lines = [(n, step.lines) for n, step in enumerate(steps) if step.lines]
    return PATH_VERSION, settled, hashes, numbers, lines, base


def load_user(raw: bytes, window: Window) -> UserState:
    """The user's state in the bytes.

    Raises:
        StateError: The bytes are no user's state, or of a version from the future.
    """
    fields = _unpack(raw, "user")
    try:
        fields = _upgraded(fields, USER_VERSION, _USER_UPGRADES, "user")
        _, stamp, path, ledger = fields
        return UserState(stamp, _path_of(path, window), tuple(Sent(*sent) for sent in ledger))
    except _WRONG_SHAPE as error:
        raise StateError(f"a stored user state has the wrong shape: {error}") from error


def state_hash(users: Iterable[tuple[str, bytes]]) -> str:
    """The digest of many users' paths: SHA-256 over user id and path, in order of user id.

    Args:
        users: Pairs of user id and `dump_path` bytes, in any order, each user once.
    """
    digest = sha256()
    for user_id, path in sorted(users):
        name = user_id.encode("utf-8")
        digest.update(len(name).to_bytes(4, "big") + name)
        digest.update(len(path).to_bytes(4, "big") + path)
    return digest.hexdigest()


def _unpack(raw: bytes, what: str) -> list[Any]:
    try:
        fields = msgpack.unpackb(raw)
    except (ValueError, msgpack.UnpackException) as error:
        raise StateError(f"a stored {what} state is no msgpack: {error}") from error
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int:
        raise StateError(f"a stored {what} state has no schema version")
    return fields


def _upgraded(
    fields: list[Any], current: int, upgrades: dict[int, Upgrade], what: str
) -> list[Any]:
    while fields[0] != current:
        upgrade = upgrades.get(fields[0])
        if upgrade is None:
            said = f"a stored {what} state has schema version {fields[0]}; this program reads"
            if fields[0] < current:
                raise StateError(f"{said} none before {current}")
            raise NewerVersion(
                f"{said} up to {current}: a newer release wrote it, and has to go on"
            )
        fields = upgrade(fields)
    return fields


def _path_of(fields: list[Any], window: Window) -> PathState:
    try:
        fields = _upgraded(fields, PATH_VERSION, _PATH_UPGRADES, "path")
        _, settled, hashes, numbers, raw_lines, raw_base = fields
        steps = unpack_steps(hashes, numbers)
        for n, lines in raw_lines:
            steps[n] = steps[n]._replace(lines=tuple(Line(*line) for line in lines))
        base = _summary_of(raw_base)
    except _WRONG_SHAPE as error:
        raise StateError(f"a stored path state has the wrong shape: {error}") from error
    return path_of(tuple(steps), hashes, numbers, settled, base, window)


def _summary_of(fields: list[Any]) -> Summary:
    *numbers, counts, before, last_by, cart = fields
    return Summary._make(
        (
            *numbers,
            _by_action(counts),
            _by_action(before),
            _by_action(last_by),
            tuple(Line(*line) for line in cart),
        )
    )


def _by_action(counts: list[int]) -> tuple[int, ...]:
    # The vocabulary only ever grows at its end: what a shorter list lacks has not happened yet.
    return tuple(counts) + (0,) * (ACTION_COUNT - len(counts))
