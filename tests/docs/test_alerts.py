"""Every alert fires when it must, is silent when it must, and is explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.metrics import Metrics
from tests.docs.alert_cases import AT_MINUTES, CASES, Series
from tests.docs.promql import ALERTS, metrics_in, promtool, series_of

ROOT = Path(__file__).resolve().parents[2]
GROUPS = yaml.safe_load((ROOT / ALERTS).read_text(encoding="utf-8"))["groups"]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"]
}


def test_every_alert_has_cases_of_both_kinds() -> None:
    assert set(CASES) == set(RULES)
    assert [name for name, case in CASES.items() if not case.fires or not case.silent] == []


def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", ROOT / ALERTS)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (Clickpath\w+)\n\n(.+?)(?=\n#|\Z)", runbook, re.MULTILINE | re.S)
    assert [name for name, _ in sections] == list(RULES)
    for name, text in sections:
        for part in ("**Means**", "**Look at**", "**Do**"):
            assert part in text, f"{name} lacks {part}"


@pytest.mark.parametrize("name", RULES)
def test_an_alert_asks_for_metrics_that_exist(name: str) -> None:
    asked = metrics_in(RULES[name]["expr"])
    assert asked
    assert asked <= series_of(Metrics().described)


@pytest.mark.parametrize("name", RULES)
def test_an_alert_fires_when_it_must(name: str, tmp_path: Path) -> None:
    for series in CASES[name].fires:
        assert _fires(name, series, tmp_path), f"{name} is silent on {series}"


@pytest.mark.parametrize("name", RULES)
def test_an_alert_is_silent_when_it_must(name: str, tmp_path: Path) -> None:
    for series in CASES[name].silent:
        assert not _fires(name, series, tmp_path), f"{name} fires on {series}"


def _fires(name: str, series: Series, folder: Path) -> bool:
    """Whether promtool sees the alert firing at the end of the series."""
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    test = {
        "rule_files": [str(ROOT / ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": n, "values": v} for n, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": firing,
                        "eval_time": f"{AT_MINUTES}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test), encoding="utf-8")
    done = promtool("test", "rules", file)
    said = done.stdout + done.stderr
    # Any other trouble than the sample that is expected is a mistake of the test.
    assert done.returncode == 0 or "got: {} 0E+00" in said, said
    return done.returncode == 0
