"""values.yaml, its schema and Chart.yaml say the same as the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

import clickpath
from helm.describe import values as described
from tests.deploy.chart import CHART

TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
VALUES = yaml.safe_load(TEXT)
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
#: Values whose keys are the user's: what lies below them is no value of the chart.
FREE = re.compile(r"settings|resources|metricsFrom|args|labels|annotations")


def leaves(tree: object, path: str = "") -> Iterator[str]:
    if isinstance(tree, dict) and tree and not FREE.search(path):
        for name, below in tree.items():
            yield from leaves(below, f"{path}.{name}" if path else name)
    else:
        yield path


def schema_leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if "properties" in schema and not FREE.search(path):
        assert schema["additionalProperties"] is False, f"{path} takes keys that nobody knows"
        for name, below in schema["properties"].items():
            yield from schema_leaves(below, f"{path}.{name}" if path else name)
    else:
        yield path


def test_every_value_has_a_sentence() -> None:
    sentences = {each.path: each.meaning for each in described(TEXT)}
    assert [path for path in leaves(VALUES) if path not in sentences] == []
    assert [path for path, text in sentences.items() if not text.endswith(".")] == []


def test_the_values_can_be_read_in_one_go() -> None:
    assert len(TEXT.splitlines()) <= 220


def test_the_schema_knows_the_values_and_no_others() -> None:
    assert set(schema_leaves(SCHEMA)) - {"global"} == set(leaves(VALUES))


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["apiVersion"] == "v2"
    assert chart["appVersion"] == clickpath.__version__
    assert "dependencies" not in chart


def test_the_chart_renders_the_same_everywhere() -> None:
    """No look-ups, random values or times: Argo CD renders without a cluster, again and again."""
    calls = re.compile(r"\b(lookup|rand\w+|genCA|genSigned\w*|uuidv4|now|date)\b")
    for template in (CHART / "templates").rglob("*.*"):
        actions = re.findall(r"\{\{.*?\}\}", template.read_text(encoding="utf-8"), re.DOTALL)
        code = [re.sub(r"/\*.*?\*/", "", each, flags=re.DOTALL) for each in actions]
        assert [each for each in code if calls.search(each)] == []
