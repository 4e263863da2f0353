"""What is kept of users' paths between calls: keys and values of their newest steps, and the steps.

Rules

1.  An entry remembers the encoded steps that it stands for, and is good for a path only whose
    steps it has, as far as they can still be seen. It is never good for another path, be it of the
    same user: after an event out of order, another window, another order of calls.
2.  All memory is taken at once and bounded in bytes; the entry that was not asked for the longest
    makes room. An entry that is gone costs time, and changes no score.
3.  What belongs to one model never meets another one: a cache is made with its model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from clickpath.errors import ConfigError
from serving.cache_counts import CacheCounts
from serving.incremental_graphs import Floats, Form, Ints
from serving.incremental_paths import TOLD

#: About what Python takes for an entry's key and its place in the order.
_KEY_BYTES: Final = 200

Places = npt.NDArray[np.intp]


class PathCache:
    """Keys and values of the newest `window` steps of each layer, in rings, by user.

    Args:
        form: Of the model.
        limit_bytes: Most memory.

    Attributes:
        slots: Users that fit.
        told: By slot, the steps that it stands for, (slots, TOLD, reach); see `told_of`.
        followed: By slot, how many steps have been followed; the last of them lies in the ring at
            place `(followed - 1) % window`.

    Raises:
        ConfigError: Not even one user fits.
    """

    def __init__(self, form: Form, limit_bytes: int) -> None:
        self._form = form
        ring_bytes = form.layers * 2 * form.window * form.width * 4
        self._slot_bytes = ring_bytes + TOLD * form.reach * 8 + 8 + _KEY_BYTES
        self.slots = limit_bytes // self._slot_bytes
        if self.slots < 1:
            raise ConfigError(
                f"a cache of {limit_bytes} bytes holds no user, one takes {self._slot_bytes}"
            )
        # Zeros that nobody has touched take no memory yet.
        rows = self.slots * form.window
        self._keys = [np.zeros((rows, form.width), np.float32) for _ in range(form.layers)]
        self._values = [np.zeros((rows, form.width), np.float32) for _ in range(form.layers)]
        self.told: Ints = np.zeros((self.slots, TOLD, form.reach), np.int64)
        self.followed: Ints = np.zeros(self.slots, np.int64)
        self._slot_of: OrderedDict[bytes, int] = OrderedDict()
        self._hits = self._misses = self._evictions = 0

    def counts(self) -> CacheCounts:
        """What it has done so far."""
        entries = len(self._slot_of)
        return CacheCounts(
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            entries=entries,
            size_bytes=entries * self._slot_bytes,
        )

    def find(self, keys: Sequence[bytes]) -> Places:
        """The slots of users, -1 for those who have none; they are the last ones to make room."""
        slot_of = self._slot_of
        slots = [slot_of.get(key, -1) for key in keys]
        for key in keys if min(slots) >= 0 else [key for key in keys if key in slot_of]:
            slot_of.move_to_end(key)
        return np.array(slots, np.intp)

    def count(self, hits: int, misses: int) -> None:
        """Counts paths by whether an entry was of use."""
        self._hits += hits
        self._misses += misses

    def claim(self, keys: Sequence[bytes]) -> Places:
        """Slots for users who have none, at most `slots` of them: free ones, or old ones."""
        slot_of = self._slot_of
        slots = np.empty(len(keys), np.intp)
        for n, key in enumerate(keys):
            slot = len(slot_of)
            if slot == self.slots:
                _, slot = slot_of.popitem(last=False)
                self._evictions += 1
            slot_of[key] = slots[n] = slot
        return slots

    def window(self, slots: Places, followed: Ints) -> Places:
        """Where the rings hold the steps before one that is to be followed, oldest first.

        Args:
            slots: Shape (N,); what a slot of -1 gives has no meaning.
            followed: How many steps were followed by then, (N,).

        Returns:
            Shape (N, window); the last place is for the step to be followed.
        """
        return self.places(slots[:, None], followed[:, None] + np.arange(1 - self._form.window, 1))

    def places(self, slots: Places, step: Ints) -> Places:
        """Where the rings hold steps of users, counted from 0."""
        window = self._form.window
        places: Places = slots * window + step % window
        return places

    def read(self, layer: int, places: Places) -> tuple[Floats, Floats]:
        """Keys and values of a layer, from 1, in places of any shape: one of (..., width) each."""
        return self._keys[layer - 1].take(places, 0), self._values[layer - 1].take(places, 0)

    def write(self, layer: int, places: Places, key: Floats, value: Floats) -> None:
        """Puts keys and values of a layer, from 1, into places (N,); both are (N, width)."""
        self._keys[layer - 1][places] = key
        self._values[layer - 1][places] = value
