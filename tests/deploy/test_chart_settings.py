"""What the chart sets is what the programs read."""

from __future__ import annotations

import re
from typing import Any

import pytest

from stream.settings import PREFIX, Settings, load_settings
from tests.deploy.chart import MATRIX, environment, render

pytestmark = pytest.mark.chart

#: Settings that the chart sets ahead of the code that reads them.
AWAITED = {
    "INSTANCE_ID",
    "LOG_FORMAT",
    "MODEL_PUBLIC_KEY_FILE",
    "MODEL_REPOSITORY",
    "OTLP_ENDPOINT",
    "PSEUDONYM_KEY_FILE",
    "STANDBY_REPLICAS",
    "STORE",
    "STORE_DIR",
    "TRITON_ADMIN_KEY_FILE",
    "TRITON_CA_FILE",
    "TRITON_CERT_FILE",
    "TRITON_KEY_FILE",
    "TRITON_MODEL",
    "TRITON_URL",
} - {name.upper() for name in Settings.model_fields}


def settings_of(container: dict[str, Any]) -> dict[str, str]:
    """The variables of a container that are settings, without those that are awaited."""
    return {
        name: value
        for name, value in environment(container).items()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in AWAITED
    }


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_every_setting_that_a_pod_is_given_is_one(values: Any) -> None:
    for name, pod in render(values.stem).pods():
        for container in pod["spec"]["containers"]:
            for setting in settings_of(container):
                assert setting.removeprefix(PREFIX).lower() in Settings.model_fields, name


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_the_settings_of_every_pod_are_taken(values: Any) -> None:
    for _, pod in render(values.stem).pods():
        for container in pod["spec"]["containers"]:
            load_settings(settings_of(container))


def test_the_ports_are_those_of_the_worker() -> None:
    (worker,) = render().one("Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    settings = load_settings(settings_of(worker))
    assert worker["ports"] == [{"name": "http", "containerPort": settings.web_port}]
    assert settings.web_host == "0.0.0.0"
    (tested,) = render().one("Pod", "test")["spec"]["containers"]
    assert set(re.findall(r"\b6\d{3}\b", tested["args"][0])) == {str(settings.web_port)}
