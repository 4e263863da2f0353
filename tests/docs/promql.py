"""What alerts and dashboard ask for: names in expressions, and promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from stream.metrics import Described

ALERTS = "helm/clickpath/files/alerts.yaml"
DASHBOARD = "helm/clickpath/files/dashboard.json"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool; skips the test where it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is absent (Debian's package prometheus brings it)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def metrics_in(expression: str) -> set[str]:
    """The names of our metrics in an expression, as written."""
    return set(re.findall(r"\bclickpath_[a-z0-9_]+", expression))


def series_of(described: Iterable[Described]) -> set[str]:
    """The names of all series that are served."""
    names = set()
    for each in described:
        if each.type == "histogram":
            names |= {f"{each.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(each.name)
    return names
