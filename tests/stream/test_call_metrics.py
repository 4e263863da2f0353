"""Calls over the network as metrics: counts since the start become counters that only grow."""

from __future__ import annotations

from collections import Counter

from serving.call_counts import CallCounts
from stream.metrics import Metrics


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"clickpath_triton_{name}", labels)
    assert found is not None
    return found


def test_each_look_adds_what_came_since_the_last_one() -> None:
    metrics = Metrics()
    counts = CallCounts(Counter(ok=5, deadline=1), retries=1, refused=0, breaker="closed")
    metrics.count_calls(counts)

    counts.calls.update(ok=2, overload=3)
    counts.retries, counts.refused, counts.breaker = 2, 40, "opened"
    for _ in range(2):  # looking twice counts nothing twice
        metrics.count_calls(counts)

    assert [value(metrics, "calls_total", outcome=each) for each in ("ok", "deadline")] == [7, 1]
    assert value(metrics, "calls_total", outcome="overload") == 3
    assert (value(metrics, "retries_total"), value(metrics, "refused_total")) == (2, 40)
    states = ("closed", "half-opened", "opened")
    assert [value(metrics, "breaker", state=state) for state in states] == [0, 0, 1]
