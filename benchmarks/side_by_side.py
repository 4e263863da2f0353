"""Engines measured in one run: in turn, on one broker, with medians, ratios and conditions."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from typing import Any

#: Takes a name that no other run has and answers events a second.
Engine = Callable[[str], float]


def measure(engines: Mapping[str, Engine], runs: int) -> dict[str, list[float]]:
    """Events a second of every run of every engine.

    The engines take turns, and each round begins with the next one, so that a machine that
    becomes faster or slower meanwhile does so for all of them.
    """
    names = list(engines)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(runs):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            rate = engines[name](f"{name.replace('_', '-')}-{turn}")
            rates[name].append(rate)
            print(f"  run {turn + 1} of {runs}  {name:<16} {rate:>9,.0f} events/s", flush=True)
    return rates


def conditions(events: int, event_bytes: int, runs: int) -> str:
    """One line that says what was measured on what."""
    load = os.getloadavg()[0]
    return (
        f"{runs} runs in turn on one embedded broker, {events:,} events of {event_bytes} bytes;"
        f" Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()},"
        f" load {load:.1f} before the start"
    )


def report(rates: Mapping[str, list[float]], subject: str, **more: Any) -> None:
    """Prints medians and ratios, and a JSON line at last.

    Args:
        rates: What `measure` answered.
        subject: The engine that is compared with each other one.
        more: What else goes into the JSON line.
    """
    medians = {name: statistics.median(each) for name, each in rates.items()}
    over = {name: round(medians[subject] / median, 2) for name, median in medians.items()}
    print("\nmedians")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        ratio = "" if name == subject else f"   {subject} is {over[name]:.2f}x"
        print(f"  {name:<16} {median:>9,.0f} events/s{ratio}")
    result = {
        **{f"{name}_eps": round(median) for name, median in medians.items()},
        **more,
        f"{subject}_over": {name: ratio for name, ratio in over.items() if name != subject},
        "all_eps": {name: [round(rate) for rate in each] for name, each in rates.items()},
    }
    print(json.dumps(result))
