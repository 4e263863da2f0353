"""What the chart sets is what the programs read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stream.settings import PREFIX, load_settings
from tests.deploy.chart import CHART, MATRIX, environment, render

pytestmark = pytest.mark.chart


def settings_of(container: dict[str, Any]) -> dict[str, str]:
    """The variables of a container that are settings."""
    variables = environment(container).items()
    return {name: value for name, value in variables if name.startswith(PREFIX)}


def workers(values: Any) -> list[dict[str, Any]]:
    """The containers of the worker."""
    pods = [pod for name, pod in render(values).pods() if name.endswith("clickpath-worker")]
    return [container for pod in pods for container in pod["spec"]["containers"]]


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_the_settings_of_every_pod_are_taken(values: Any) -> None:
    """Also that each is a field: the programs refuse a variable that is none."""
    for _, pod in render(values.stem).pods():
        for container in pod["spec"]["containers"]:
            load_settings(settings_of(container))


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_no_setting_is_given_twice(values: Any) -> None:
    for name, pod in render(values.stem).pods():
        for container in pod["spec"]["containers"]:
            names = [each["name"] for each in container.get("env", ())]
            assert sorted(set(names)) == sorted(names), name


def test_a_setting_that_the_chart_makes_of_its_values_has_no_second_way() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    settings = schema["properties"]["worker"]["properties"]["settings"]
    made = {
        name.removeprefix(PREFIX)
        for values in MATRIX
        for container in workers(values.stem)
        for name in environment(container)
    }
    free = {"LOG_FORMAT", "LATENESS_S", "CLICKS_TOPIC", "OTLP_ENDPOINT"}
    free |= {"PSEUDONYM_KEY_FILE", "MODEL_PUBLIC_KEY_FILE"}
    assert made - free <= {name for name, allowed in settings["properties"].items() if not allowed}
    (worker,) = workers({"worker": {"settings": {"LOG_FORMAT": "text"}}})
    assert environment(worker)["CLICKPATH_LOG_FORMAT"] == "text"


def test_the_ports_are_those_of_the_worker() -> None:
    (worker,) = render().one("Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    settings = load_settings(settings_of(worker))
    assert worker["ports"] == [{"name": "http", "containerPort": settings.web_port}]
    assert settings.web_host == "0.0.0.0"
    (tested,) = render().one("Pod", "test")["spec"]["containers"]
    assert set(re.findall(r"\b6\d{3}\b", tested["args"][0])) == {str(settings.web_port)}
