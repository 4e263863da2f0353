"""docker-compose.yml: valid, pinned, closed to the outside, and in step with code and images."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import PREFIX, Settings
from tests.deploy.accepted import said_about
from tests.deploy.chart import CHART, made
from tests.deploy.dockerfile import ROOT, stages
from tests.docs.promql import promtool
from tests.kafka.apache import ApacheKafka, Missing

pytestmark = pytest.mark.compose

FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Services that run `clickpath`.
OURS = [
    name
    for name, service in SERVICES.items()
    if service["image"].startswith(("clickpath/worker", "clickpath/trainer"))
]


def of_profile(*profiles: str) -> set[str]:
    return {
        name
        for name, service in SERVICES.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def schema_says(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [made("chart-tools") / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True,
        text=True,
    )


def test_the_file_is_what_the_compose_specification_says() -> None:
    done = schema_says(FILE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("command:", "comand:"),
        ("cap_drop: [ALL]", "cap_drop: ALL"),
        ("shm_size: 256m", "shm_size: []"),
    ],
)
def test_a_wrong_key_or_value_is_seen(right: str, wrong: str, tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    spoilt = tmp_path / "docker-compose.yml"
    spoilt.write_text(text.replace(right, wrong))
    assert schema_says(spoilt).returncode == 1


def test_without_a_profile_there_is_a_worker_with_all_that_it_needs() -> None:
    assert of_profile() == {"kafka", "topics", "models", "triton", "worker"}
    assert of_profile("demo") - of_profile() == {"simulator"}
    assert of_profile("train") - of_profile() == {"trainer"}
    assert of_profile("observe") - of_profile() == {"prometheus", "grafana"}
    assert of_profile("gpu") - of_profile() == {"models-gpu", "triton-gpu"}


def test_a_service_waits_for_services_that_are_there() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            optional = how.get("required") is False
            assert optional or other in of_profile(*service.get("profiles", ())), name
            if how["condition"] == "service_healthy":
                built = stages().get(SERVICES[other].get("build", {}).get("target", ""))
                assert built or SERVICES[other].get("healthcheck"), f"{other} has no health check"


def test_every_image_has_a_version() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"v?\d+\.\d+", tag), f"{name} is {service['image']}"


def test_what_is_built_is_a_stage_of_the_dockerfile() -> None:
    for service in SERVICES.values():
        if "build" in service:
            assert service["build"]["target"] in stages()
            assert service["build"]["target"] in service["image"]


def test_triton_is_the_same_release_everywhere() -> None:
    image = SERVICES["triton-gpu"]["image"]
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["triton"]["image"]
    assert image == f"{values['repository']}:{values['tag']}"
    assert f"ARG TRITON_IMAGE={image}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_nothing_listens_beyond_the_loopback() -> None:
    for service in SERVICES.values():
        assert [
            each for each in service.get("ports", ()) if not each.startswith("127.0.0.1:")
        ] == []


def test_containers_have_no_capabilities_and_ours_a_read_only_root() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in (*OURS, "triton", "triton-gpu", "prometheus"):
        assert SERVICES[name]["read_only"] is True, name


def test_every_volume_and_file_that_is_mounted_is_there() -> None:
    mounted = {
        each.partition(":")[0] for name in SERVICES for each in SERVICES[name].get("volumes", ())
    }
    assert mounted == set(COMPOSE["volumes"])
    used = {each["source"] for name in SERVICES for each in SERVICES[name].get("configs", ())}
    assert used == set(COMPOSE["configs"])
    files = [each["file"] for each in COMPOSE["configs"].values() if "file" in each]
    assert [each for each in files if not (ROOT / each).is_file()] == []


def test_every_setting_is_one_of_the_code() -> None:
    for name in OURS:
        settings = {each for each in SERVICES[name]["environment"] if each.startswith(PREFIX)}
        fields = {each.removeprefix(PREFIX).lower() for each in settings}
        assert fields - set(Settings.model_fields) == set(), name


@pytest.mark.parametrize("name", [name for name in OURS if "command" in SERVICES[name]])
def test_every_command_is_one_of_the_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said_about(SERVICES[name]["command"], capsys) == ""


def test_a_command_that_is_none_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--evnts" in said_about(["simulate", "--evnts=1", "--out=x"], capsys)


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    text = COMPOSE["configs"]["prometheus"]["content"].replace("${TRITON:-triton}", "triton")
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yaml").write_text((CHART / "files" / "alerts.yaml").read_text())
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    targets = [
        target
        for job in yaml.safe_load(text)["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert {each.partition(":")[0] for each in targets} <= set(SERVICES)


@pytest.mark.kafka
def test_apache_kafka_starts_with_these_settings() -> None:
    """All but names, addresses and the place of its logs, which a test gives it."""
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    ours = re.compile(r"listener|voters|log\.dirs")
    assert {"process.roles", "auto.create.topics.enable"} <= set(given)
    config = "".join(f"{name}={value}\n" for name, value in given.items() if not ours.search(name))
    try:
        with ApacheKafka(lambda _: config) as kafka:
            assert kafka.bootstrap_servers
    except Missing as missing:
        pytest.skip(str(missing))


def test_the_listeners_of_kafka_fit_together() -> None:
    environ = SERVICES["kafka"]["environment"]
    names = [each.partition("://")[0] for each in environ["KAFKA_LISTENERS"].split(",")]
    mapped = environ["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    assert [each.partition(":")[0] for each in mapped] == names
    advertised = dict(
        each.split("://") for each in environ["KAFKA_ADVERTISED_LISTENERS"].split(",")
    )
    assert set(names) - set(advertised) == {environ["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    inside = advertised[environ["KAFKA_INTER_BROKER_LISTENER_NAME"]]
    assert SERVICES["worker"]["environment"]["CLICKPATH_BOOTSTRAP_SERVERS"] == inside
    assert inside.partition(":")[0] in SERVICES
    (port,) = SERVICES["kafka"]["ports"]
    assert advertised["OUTSIDE"] == f"localhost:{port.rpartition(':')[2]}"
    assert json.dumps(SERVICES["simulator"]["command"]).count(inside) == 1
