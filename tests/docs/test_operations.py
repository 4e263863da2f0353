"""What operations.md names is there: the tests that hold an answer, the metrics that show it."""

from __future__ import annotations

import re
from pathlib import Path

from stream.metrics import Metrics


def test_each_answer_is_held_by_a_test_that_exists(repository: Path) -> None:
    page = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    [section] = re.findall(r"## Odd input\n(.*?)\n## ", page, re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    there = {
        name
        for file in (repository / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert rows
    assert all(named), "a row names no test"
    assert {name for names in named for name in names} - there == set()


def test_metrics_that_the_page_names_exist(repository: Path) -> None:
    page = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    shown = Metrics().page().decode()
    told = set(re.findall(r"^# HELP (clickpath_\w+)", shown, re.MULTILINE))
    told |= {name.removesuffix("_total") for name in told}
    named = {name.removesuffix("_total") for name in re.findall(r"clickpath_[a-z_]+", page)}
    assert named - told == set()
