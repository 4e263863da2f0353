"""The users of a chunk while it is handled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clickpath.erasure import Request
from clickpath.ledger import EMPTY_LEDGER, Ledger
from clickpath.pseudonym import Edge
from clickpath.window import EMPTY_PATH, OpenPath, Window
from clickpath.wire.state import NEW_USER, UserState


@dataclass(slots=True)
class User:
    """A user while a chunk is handled."""

    user_id: str
    key: bytes
    stamp: int
    path: OpenPath
    ledger: Ledger
    changed: bool = False

    def state(self) -> UserState:
        """The state as of now."""
        return UserState(self.stamp, self.path.state(), self.ledger)


class Work(dict[str, User]):
    """The users of one chunk by the ids that came, changed in place.

    Those not met yet are taken from their states; here they pass the edge, once a chunk.
    """

    def __init__(self, users: Mapping[bytes, UserState], window: Window, edge: Edge) -> None:
        self._users = users
        self._window = window
        self._edge = edge
        self.erased: dict[bytes, None] = {}

    def erase(self, request: Request, offset: int) -> tuple[bool, int]:
        """Takes one step; returns whether there was something to erase, and of how many events."""
        user_id = request.user_id
        key = user_id.encode("utf-8")
        user = self.get(user_id)
        if user is not None and user.changed:
            state: UserState | None = user.state()
        else:
            state = None if key in self.erased else self._users.get(key)
        if state is None or offset <= state.stamp:
            return False, 0
        blank = state.path == EMPTY_PATH and not state.ledger
        if request.step == "forget" and not blank:
            # The user came back meanwhile: the new path stays.
            return False, 0
        # Decisions that are due in this chunk keep the user that they were made for.
        for given_id in [given_id for given_id, user in self.items() if user.key == key]:
            del self[given_id]
        if request.step == "forget":
            self.erased[key] = None
            return True, 0
        path = OpenPath(EMPTY_PATH, self._window)
        self[user_id] = User(user_id, key, offset, path, EMPTY_LEDGER, changed=True)
        return not blank, state.path.tip.events

    def __missing__(self, given_id: str) -> User:
        user_id = self._edge(given_id)
        if user_id != given_id:
            # The id may come in both forms.
            user = self[given_id] = self[user_id]
            return user
        key = user_id.encode("utf-8")
        state = NEW_USER if key in self.erased else self._users.get(key, NEW_USER)
        path = OpenPath(state.path, self._window)
        user = self[user_id] = User(user_id, key, state.stamp, path, state.ledger)
        return user

    def states(self) -> dict[bytes, UserState]:
        """The new states of the users that have changed."""
        return {user.key: user.state() for user in self.values() if user.changed}
