"""Python's garbage collector, set for a process that keeps the states of many users."""

from __future__ import annotations

import gc
from typing import Final

#: Allocations between collections. States are trees of tuples, which reference counting frees; the
#: collector only walks through all of them again and again. Measured on the handler alone, with
#: 20,000 users: 55 microseconds an event with Python's defaults, 38 with these.
_THRESHOLDS: Final = (100_000, 50, 100)


def calm_collector() -> None:
    """Looks for cycles less often, and never in what is loaded now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
