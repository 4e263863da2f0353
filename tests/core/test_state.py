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

#: Its newest steps are pending, cart lines and all.
CART = path_of(("a", 0, "view_item"), ("b", 5, "add_to_cart"), ("c", 9, "remove_from_cart"))


@pytest.mark.parametrize("path", [EMPTY_PATH, path_of(("a", 5, "search")), LONG, CART])
def test_a_path_survives_its_bytes_with_its_tip(path: PathState) -> None:
    assert load_path(dump_path(path), WINDOW) == path


def test_a_user_survives_its_bytes() -> None:
    user = UserState(stamp=41, path=LONG, ledger=(Sent("coupon", 10_000),))

    assert load_user(dump_user(user), WINDOW) == user
    assert load_user(dump_user(NEW_USER), WINDOW) == NEW_USER


def test_a_state_from_the_future_is_refused_by_its_version() -> None:
    version, *rest = msgpack.unpackb(dump_path(LONG))
    raw = msgpack.packb([version + 1, *rest])

    with pytest.raises(StateError, match="schema version 4; this program reads up to 3"):
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
    base = fields[-1]
    for at in (7, 8, 9):
        base[at] = base[at][:-1]

    assert load_path(msgpack.packb(fields), WINDOW) == LONG


def test_the_hash_depends_on_users_and_paths_but_not_on_their_order() -> None:
    ann, bob = ("ann", dump_path(LONG)), ("bob", dump_path(EMPTY_PATH))

    assert state_hash([ann, bob]) == state_hash([bob, ann])
    assert state_hash([ann]) != state_hash([ann, bob])
    assert state_hash([ann, bob]) != state_hash([("ann", bob[1]), ("bob", ann[1])])


def test_a_state_of_version_1_is_read_with_an_absence_that_is_not_known() -> None:
    *_, base = msgpack.unpackb(dump_path(LONG))
    older = msgpack.packb([1, LONG.settled, LONG.steps, base[:4] + base[5:]])

    path = load_path(older, WINDOW)

    assert path.base == LONG.base._replace(absence_ms=NO_ABSENCE)
    assert path.steps == LONG.steps


def test_a_state_of_version_2_is_read_with_its_steps_and_their_cart_lines() -> None:
    assert any(step.lines for step in CART.steps)
    older = msgpack.packb([2, CART.settled, CART.steps, CART.base])

    assert load_path(older, WINDOW) == CART


@pytest.mark.parametrize(
    "steps",
    [[[1, 2, 3]], [[2**63, 0, 1, 0, 0, -1, 0, []]], [["a", 0, 1, 0, 0, -1, 0, []]], [[]], 7],
)
def test_an_older_state_whose_steps_are_none_is_refused(steps: object) -> None:
    with pytest.raises(StateError, match="wrong shape"):
        load_path(msgpack.packb([2, 0, steps, EMPTY_PATH.base]), WINDOW)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (2, b"x"),  # half a hash
        (2, b""),  # fewer hashes than steps
        (2, [1]),
        (3, b"x"),  # half a step
        (3, 7),
        (4, [[99, [["shoe", 1, 5]]]]),  # no such step
        (4, [[0, [["shoe", 1]]]]),
        (4, 7),
    ],
)
def test_a_state_whose_steps_or_cart_lines_are_none_is_refused(at: int, value: object) -> None:
    fields = msgpack.unpackb(dump_path(CART))
    fields[at] = value

    with pytest.raises(StateError, match="wrong shape"):
        load_path(msgpack.packb(fields), WINDOW)


def test_an_older_state_is_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    version, settled, *rest = msgpack.unpackb(dump_path(LONG))
    older = msgpack.packb([version - 2, *rest])  # a layout that never was
    upgrades = {
        version - 2: lambda fields: [version - 1, *fields[1:], settled],
        version - 1: lambda fields: [version, fields[-1], *fields[1:-1]],
    }
    for at, upgrade in upgrades.items():
        monkeypatch.setitem(_PATH_UPGRADES, at, upgrade)

    assert load_path(older, WINDOW) == LONG
