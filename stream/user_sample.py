"""What is kept of a sample of users that shrinks, so that it never becomes too much.

Whether a user is in the sample follows from her id alone, so that of a user who is in it all is
kept, of clicks and of decisions alike. At first everybody is; whenever more is kept than may be,
the share is halved and the users beyond it are forgotten. What is left is what would have been
kept had the share been that small from the beginning.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from clickpath.ids import draw

#: Most that is kept of one user: nobody may fill the sample alone.
OF_USER: Final = 1_000

T = TypeVar("T")


class UserSample(Generic[T]):
    """See above.

    Args:
        most: Things kept at any time; one more while the sample shrinks.

    Attributes:
        by_user: What is kept, in the order in which it came, by user id.
        share: Of the users who are in the sample.
    """

    def __init__(self, most: int) -> None:
        self.by_user: dict[str, list[T]] = {}
        self.share = 1.0
        self._most = most
        self._kept = 0

    def __len__(self) -> int:
        return self._kept

    def has(self, user_id: str) -> bool:
        """Whether a user is in the sample."""
        return self.share == 1 or _place(user_id) < self.share

    def add(self, user_id: str, thing: T) -> None:
        """Keeps something of a user, if she is in the sample."""
        if not self.has(user_id):
            return
        kept = self.by_user.setdefault(user_id, [])
        if len(kept) == OF_USER:
            return
        kept.append(thing)
        self._kept += 1
        while self._kept > self._most:
            self._halve()

    def _halve(self) -> None:
        self.share /= 2
        for user_id in [each for each in self.by_user if not self.has(each)]:
            self._kept -= len(self.by_user.pop(user_id))


def _place(user_id: str) -> float:
    return draw("sample", user_id)
