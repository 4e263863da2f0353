"""States as bytes: canonical, versioned, and refused when they are not understood."""

import msgpack
import pytest

from clickpath.errors import StateError
from clickpath.events import Click, Item
from clickpath.ledger import Sent
from clickpath.summary import NO_ABSENCE
from clickpath.window import EMPTY_PATH, PathState, Window, push
from clickpath.wire.state import (
    _PATH_UPGRADES,
    NEW_USER,
    UserState,
    dump_path,
    dump_user,
    load_path,
    load_user,
    state_hash,
)

WINDOW = Window(steps=3, lateness_ms=60_000)


def path_of(*events: tuple[str, int, str]) -> PathState:
    path = EMPTY_PATH
    for event_id, ts_ms, action in events:
        click = Click(event_id, "ann", ts_ms, action, action, (Item("shoe", "shoes", 4999, 2),))
        path, _ = push(path, click, WINDOW)
    return path


LONG = path_of(
    ("a", 0, "view_item"),
    ("b", 10_000, "add_to_cart"),
    ("c", 200_000, "view_cart"),
    ("d", 210_000, "begin_checkout"),
    ("e", 220_000, "purchase"),
)


@pytest.mark.parametrize("path", [EMPTY_PATH, path_of(("a", 5, "search")), LONG])
def test_a_path_survives_its_bytes_with_its_tip(path: PathState) -> None:
    assert load_path(dump_path(path), WINDOW) == path


def test_a_user_survives_its_bytes() -> None:
    user = UserState(stamp=41, path=LONG, ledger=(Sent("coupon", 10_000),))

    assert load_user(dump_user(user), WINDOW) == user
    assert load_user(dump_user(NEW_USER), WINDOW) == NEW_USER


def test_a_state_from_the_future_is_refused_by_its_version() -> None:
    version, *rest = msgpack.unpackb(dump_path(LONG))
    raw = msgpack.packb([version + 1, *rest])

    with pytest.raises(StateError, match="schema version 3; this program reads up to 2"):
        load_path(raw, WINDOW)


@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", msgpack.packb({}), msgpack.packb([1, 2]), msgpack.packb([2, 2])]
)
def test_bytes_that_are_no_state_are_refused(raw: bytes) -> None:
    with pytest.raises(StateError):
        load_path(raw, WINDOW)
    with pytest.raises(StateError):
        load_user(raw, WINDOW)


def test_a_state_with_a_shorter_vocabulary_reads_as_never_seen() -> None:
    fields = msgpack.unpackb(dump_path(LONG))
    base = fields[3]
    for at in (7, 8, 9):
        base[at] = base[at][:-1]

    assert load_path(msgpack.packb(fields), WINDOW) == LONG


def test_the_hash_depends_on_users_and_paths_but_not_on_their_order() -> None:
    ann, bob = ("ann", dump_path(LONG)), ("bob", dump_path(EMPTY_PATH))

    assert state_hash([ann, bob]) == state_hash([bob, ann])
    assert state_hash([ann]) != state_hash([ann, bob])
    assert state_hash([ann, bob]) != state_hash([("ann", bob[1]), ("bob", ann[1])])


def test_a_state_of_version_1_is_read_with_an_absence_that_is_not_known() -> None:
    _, settled, steps, base = msgpack.unpackb(dump_path(LONG))
    older = msgpack.packb([1, settled, steps, base[:4] + base[5:]])

    path = load_path(older, WINDOW)

    assert path.base == LONG.base._replace(absence_ms=NO_ABSENCE)
    assert path.steps == LONG.steps


def test_an_older_state_is_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    version, settled, steps, base = msgpack.unpackb(dump_path(LONG))
    older = msgpack.packb([version - 2, steps, base])  # a layout that never was
    upgrades = {
        version - 2: lambda fields: [version - 1, *fields[1:], settled],
        version - 1: lambda fields: [version, fields[3], fields[1], fields[2]],
    }
    for at, upgrade in upgrades.items():
        monkeypatch.setitem(_PATH_UPGRADES, at, upgrade)

    assert load_path(older, WINDOW) == LONG
