"""Everything that the chart renders is held against the schemas of what takes it."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from helm.describe import files
from tests.deploy.chart import CHART, CUSTOM_GROUPS, MATRIX, Resource, helm, made, refusal, render

pytestmark = pytest.mark.chart

HERE = Path(__file__).parent
OLDEST, NEWEST = "1.28", "1.37"


def is_custom(resource: Resource) -> bool:
    return resource["apiVersion"].split("/")[0] in CUSTOM_GROUPS


def all_resources(*, custom: bool) -> list[Resource]:
    """Every resource of the matrix, the same one once."""
    found = {
        json.dumps(each, sort_keys=True): each
        for values in MATRIX
        for each in render(values.stem).resources
        if is_custom(each) == custom
    }
    return [*found.values()]


def kubernetes(resources: list[Resource], oldest: str = OLDEST, newest: str = NEWEST) -> dict:
    done = subprocess.run(
        [made("chart-tools") / "python", HERE / "strict_schemas.py", oldest, newest],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def operators(resources: list[Resource]) -> list[str]:
    if shutil.which("npm") is None or (node := shutil.which("node")) is None:
        pytest.skip("there is no node and npm, which bring the operators' types")
    done = subprocess.run(
        [node, HERE / "custom_resources" / "check.mjs", made("chart-types")],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_the_chart_is_linted_without_a_warning(values: Path) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_every_kubernetes_version_takes_every_resource() -> None:
    found = kubernetes(all_resources(custom=False))
    assert found["versions"] == [f"1.{minor}" for minor in range(28, 38)]
    assert found["wrong"] == []


def test_a_wrong_kubernetes_field_is_seen() -> None:
    worker = copy.deepcopy(render().one("Deployment", "worker"))
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    container["redinessProbe"] = container.pop("readinessProbe")
    (wrong,) = kubernetes([worker], NEWEST, NEWEST)["wrong"]
    assert "redinessProbe" in wrong


def test_the_operators_take_every_custom_resource() -> None:
    resources = all_resources(custom=True)
    assert {each["kind"] for each in resources} >= {
        "KafkaTopic",
        "KafkaUser",
        "ScaledObject",
        "ServiceMonitor",
        "TriggerAuthentication",
    }
    assert operators(resources) == []


def test_a_wrong_field_or_value_of_a_custom_resource_is_seen() -> None:
    scaled = copy.deepcopy(render("keda").one("ScaledObject", "worker"))
    scaled["spec"]["maxReplicas"] = scaled["spec"].pop("maxReplicaCount")
    (wrong,) = operators([scaled])
    assert "maxReplicas" in wrong
    topic = copy.deepcopy(render("strimzi").one("KafkaTopic", "clicks"))
    topic["spec"]["partitions"] = 0
    (wrong,) = operators([topic])
    assert "partitions" in wrong


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"worker": {"replica": 3}}, "additional properties 'replica' not allowed"),
        ({"triton": {"tls": {"secret": "x"}}}, "additional properties 'secret' not allowed"),
        ({"worker": {"replicas": "two"}}, "/worker/replicas"),
        ({"worker": {"settings": {"lateness_s": "1"}}}, "lateness_s"),
        ({"worker": {"settings": {"DELIVERY": "transactional"}}}, "/worker/settings/DELIVERY"),
        (
            {"strimzi": {"topics": True}, "worker": {"settings": {"LATE_TOPIC": "x"}}},
            "worker.settings.LATE_TOPIC cannot be set",
        ),
        ({"worker": {"secretFiles": {"POLICY": {"secret": "a", "key": "b"}}}}, "POLICY"),
        ({"worker": {"resources": {"limits": {"memory": "lots"}}}}, "/worker/resources"),
        ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
        ({"kafka": {"bootstrapServers": "kafka:9092;other"}}, "/kafka/bootstrapServers"),
        ({"kafka": {"securityProtocol": "SASL_SSL"}}, "/kafka/sasl/secret"),
        ({"kafka": {"sasl": {"password": "secret"}}}, "additional properties 'password'"),
        ({"autoscaling": {"kind": "both"}}, "/autoscaling/kind"),
        ({"triton": {"tls": {"serverSecret": "x"}}}, "/triton/tls/clientSecret"),
        ({"triton": {"repository": "/models"}}, "/triton/repository"),
        ({"worker": {"replicas": 20}}, "only 12 partitions"),
        ({"trainer": {"enabled": True}}, "trainer.enabled needs archive.enabled"),
    ],
    ids=lambda each: json.dumps(each)[:60] if isinstance(each, dict) else "",
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, object], said: str) -> None:
    assert said in refusal(values)


def test_what_is_written_from_values_and_code_is_up_to_date() -> None:
    stale = [path.name for path, text in files().items() if path.read_text() != text]
    assert stale == [], "run `make reference` and commit it"
