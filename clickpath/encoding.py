"""The one encoder: path -> fixed integer array, for the worker and the trainer alike.

Padding, truncation, unknown values and the order of ids are written here and nowhere else. The
arithmetic is on integers only, so that no platform rounds differently from another.

Layout of an encoded path: `array('q')` of `FEATURES * steps` little or big endian machine
integers, feature-major, i.e. shape (feature, time) in C order. Time runs from the oldest kept step
to the newest; padding (zeros) comes after the newest, so that a causal model needs no mask.

    feature            value of a step                                   unknown   padding
    action             action id, from 1                                 -         0
    item               63-bit hash of the first item's id                0         0
    category           63-bit hash of its category                       0         0
    price_bucket       bits of (price in cents + 1), 1..PRICE_BUCKETS-1   0         0
    gap_bucket         1 + bits of (ms since the step before)            0 (first) 0
    session_position   place in its session within the window, from 1    -         0

The buckets are octaves: twice the price, or twice the silence, is one bucket more. A model folds
the hashes into tables of its own size.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from operator import sub
from struct import Struct
from typing import Final

from clickpath.steps import Step
from clickpath.vocabulary import ACTIONS
from clickpath.window import PathState, Window

FEATURE_NAMES: Final = (
    "action",
    "item",
    "category",
    "price_bucket",
    "gap_bucket",
    "session_position",
)
FEATURES: Final = len(FEATURE_NAMES)
PRICE_BUCKETS: Final = 42  # 10**12 cents have 40 bits
GAP_BUCKETS: Final = 50  # the year 9999 in milliseconds has 48 bits
SESSION_POSITIONS: Final = 64

#: Raised by hand whenever the same path would be encoded differently from before.
_REVISION: Final = 1

#: Bytes of one integer, and where in it those below 256 stand.
_WIDTH: Final = 8
_LOWEST: Final = 0 if sys.byteorder == "little" else _WIDTH - 1

EncodedPath = array  # array('q') of shape (FEATURES, steps), feature-major


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes paths that were kept with one window.

    Attributes:
        window: The window that keeps the paths; its `steps` and `session_gap_ms` are part of the
            fingerprint.
        fingerprint: 16 hexadecimal digits that change with everything a model must agree on.
    """

    window: Window
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        definition = {
            "revision": _REVISION,
            "features": FEATURE_NAMES,
            "actions": ACTIONS,
            "buckets": (PRICE_BUCKETS, GAP_BUCKETS, SESSION_POSITIONS),
            # Not the lateness and the limits of memory: they decide which events a path holds,
            # not how a path is encoded, and an operator may change them under a model.
            "steps": self.window.steps,
            "session_gap_ms": self.window.session_gap_ms,
        }
        text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
        object.__setattr__(self, "fingerprint", sha256(text.encode()).hexdigest()[:16])

    def encode(self, state: PathState) -> array[int]:
        """The newest steps of a path, as an array of shape (FEATURES, window.steps)."""
        return self.encode_steps(state.steps[-self.window.steps :])

    def encode_steps(self, steps: tuple[Step, ...]) -> array[int]:
        """`encode` for at most `window.steps` steps in event-time order."""
        raw = bytearray(_WIDTH * FEATURES * self.window.steps)
        encoded = array("q")
        if steps:
            self._write(steps, raw)
        encoded.frombytes(raw)
        return encoded

    def _write(self, steps: tuple[Step, ...], raw: bytearray) -> None:
        """Writes the features of steps, at least one, over the zeros of `raw`."""
        length, row = len(steps), _WIDTH * self.window.steps
        used = _WIDTH * length
        ts_ms, _, action, item, category, price_cents, _, _ = zip(*steps, strict=True)
        gaps_ms = list(map(sub, ts_ms[1:], ts_ms))
        integers = _integers(length)
        integers.pack_into(raw, row, *item)
        integers.pack_into(raw, 2 * row, *category)
        # The other features fit into one byte of each integer; where it lies, the machine says.
        for feature, values in (
            (0, action),
            (3, [(price + 1).bit_length() for price in price_cents]),
            (4, [0, *[1 + gap_ms.bit_length() for gap_ms in gaps_ms]]),
            (5, self._session_positions(gaps_ms)),
        ):
            first = feature * row + _LOWEST
            raw[first : first + used : _WIDTH] = bytes(values)

    def _session_positions(self, gaps_ms: Sequence[int]) -> bytes:
        session_gap_ms = self.window.session_gap_ms
        if not gaps_ms or max(gaps_ms) < session_gap_ms:
            return _positions(len(gaps_ms) + 1)
        starts = [at for at, gap_ms in enumerate(gaps_ms, 1) if gap_ms >= session_gap_ms]
        sessions = pairwise([0, *starts, len(gaps_ms) + 1])
        return b"".join([_positions(end - start) for start, end in sessions])


@lru_cache(maxsize=1024)
def _integers(count: int) -> Struct:
    """So many integers as this machine's arrays hold them."""
    return Struct(f"={count}q")


@lru_cache(maxsize=1024)
def _positions(steps: int) -> bytes:
    """The places of so many steps of one session."""
    return bytes(min(n, SESSION_POSITIONS - 1) for n in range(1, steps + 1))


def path_length(encoded: array[int]) -> int:
    """How many real steps an encoded path has."""
    steps = len(encoded) // FEATURES
    return next((n for n in range(steps) if not encoded[n]), steps)
