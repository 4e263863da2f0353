"""Topics, Triton, the trainer, volumes and monitoring."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from stream.topics import Topics
from tests.deploy.accepted import said_about
from tests.deploy.chart import CHART, NAMESPACE, ROOT, environment, helm, render
from tests.kafka.guarded import Rule, documented_rules

pytestmark = pytest.mark.chart


def test_a_job_makes_the_topics_with_the_topics_that_the_workers_use() -> None:
    (container,) = render("sasl").one("Job", "topics")["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [
        "topics",
        "create",
        "--partitions=12",
        "--replication-factor=3",
    ]
    variables = environment(container)
    assert variables["CLICKPATH_CLICKS_TOPIC"] == "shop.clicks"
    assert "CLICKPATH_LATENESS_S" not in variables


def test_strimzi_makes_the_topics_of_the_code_in_place_of_the_job() -> None:
    rendered = render("strimzi")
    assert rendered.all("Job") == {}
    topics = rendered.all("KafkaTopic")
    wanted = Topics(changelog="paths-users-changelog").configs()
    assert {name: each["spec"]["config"] for name, each in topics.items()} == wanted
    for each in topics.values():
        assert each["metadata"]["namespace"] == "kafka"
        assert each["metadata"]["labels"]["strimzi.io/cluster"] == "shop"
        assert (each["spec"]["partitions"], each["spec"]["replicas"]) == (12, 3)


@pytest.mark.parametrize("job", [True, False])
def test_strimzis_user_may_do_what_the_documented_rules_say(*, job: bool) -> None:
    strimzi = {"user": True, "topics": not job}
    rendered = render({"kafka": {"securityProtocol": "SSL"}, "strimzi": strimzi})
    user = rendered.all("KafkaUser")["shop-clickpath"]["spec"]
    assert user["authentication"] == {"type": "tls"}

    def allowed(rule: Rule) -> bool:
        kind = {"TOPIC": "topic", "GROUP": "group", "TRANSACTIONAL_ID": "transactionalId"}
        return any(
            rule.operation
            in [re.sub(r"\B([A-Z])", r"_\1", each).upper() for each in acl["operations"]]
            and kind[rule.resource] == acl["resource"]["type"]
            # A documented prefix of topics is all of them, one by one.
            and (
                rule.name == acl["resource"]["name"]
                or (
                    (acl["resource"]["patternType"] == "prefix")
                    and rule.name.startswith(acl["resource"]["name"])
                )
                or (rule.name.endswith(".") and acl["resource"]["name"].startswith(rule.name))
            )
            for acl in user["authorization"]["acls"]
        )

    documented = documented_rules(ROOT / "docs" / "operations.md")
    assert len(documented) > 5
    assert [rule for rule in documented if not allowed(rule)] == []
    assert not allowed(Rule("TOPIC", "payments", "READ"))
    made_by_the_job = [Rule("TOPIC", name, "CREATE") for name in Topics().configs()]
    own = [each for each in made_by_the_job if each.name.startswith("clickpath-")]
    assert [each for each in made_by_the_job if allowed(each)] == (made_by_the_job if job else own)


def test_strimzis_user_has_a_password_where_the_brokers_ask_for_one() -> None:
    (user,) = render("everything").all("KafkaUser").values()
    assert user["metadata"]["name"] == "clickpath"
    assert user["metadata"]["namespace"] == NAMESPACE
    assert user["spec"]["authentication"] == {"type": "scram-sha-512"}


def test_triton_has_its_gpu_and_half_an_hour_to_build_engines() -> None:
    rendered = render("triton")
    spec = rendered.one("Deployment", "triton")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "--model-repository=/models/triton" in container["args"]
    assert "--load-model=clickpath" in container["args"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "models"}} in (
        spec["template"]["spec"]["volumes"]
    )
    assert rendered.all("PersistentVolumeClaim") == {}


def test_an_empty_repository_is_given_the_shipped_model_for_what_runs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    backends = {}
    for gpus in (0, 1):
        rendered = render({"triton": {"enabled": True, "gpus": gpus}})
        pod = rendered.one("Deployment", "triton")["spec"]["template"]["spec"]
        (first,) = pod["initContainers"]
        assert said_about(first["args"], capsys) == ""
        assert first["command"][:2] == ["sh", "-c"]
        backends[gpus] = first["args"][-1]
    assert backends == {0: "--backend=python", 1: "--backend=onnxruntime"}


def test_triton_reads_its_repository_from_s3() -> None:
    rendered = render("triton-s3")
    pod = rendered.one("Deployment", "triton")["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    (container,) = pod["containers"]
    assert "--model-repository=s3://models/clickpath" in container["args"]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert rendered.all("PersistentVolumeClaim") == {}
    ports = rendered.one("NetworkPolicy", "triton")["spec"]["egress"][0]["ports"]
    assert {"port": 443, "protocol": "TCP"} in ports


def test_workers_ask_the_triton_of_their_release() -> None:
    rendered = render("triton-s3")
    (worker,) = rendered.one("Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    service = rendered.one("Service", "triton")
    host, _, port = environment(worker)["CLICKPATH_TRITON_URL"].partition(":")
    assert host == service["metadata"]["name"]
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]


def test_without_triton_there_is_nothing_of_it() -> None:
    rendered = render()
    assert [each for each in rendered.resources if "triton" in each["metadata"]["name"]] == []
    (worker,) = rendered.one("Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    assert [name for name in environment(worker) if "TRITON" in name] == []


def test_the_commands_of_pods_are_commands_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    for _, pod in render("everything").pods():
        for container in pod["spec"]["containers"]:
            if container["image"].startswith("ghcr.io/clickpath/") and "command" not in container:
                assert said_about(container["args"], capsys) == "", container["name"]


def test_the_trainer_runs_one_at_a_time_on_the_workers_archive() -> None:
    rendered = render("everything")
    cron = rendered.one("CronJob", "trainer")["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["jobTemplate"]["spec"]["backoffLimit"] == 0
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "ghcr.io/clickpath/trainer:0.1.0"
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert mounts["archive"]["readOnly"] is True
    assert f"--corpus={mounts['archive']['mountPath']}" in container["args"]
    assert "readOnly" not in mounts["models"]
    (worker,) = rendered.one("StatefulSet", "worker")["spec"]["template"]["spec"]["containers"]
    assert environment(worker)["CLICKPATH_ARCHIVE"] == mounts["archive"]["mountPath"]


def test_workers_follow_the_versions_that_the_trainer_leaves() -> None:
    (worker,) = render("trainer").one("Deployment", "worker")["spec"]["template"]["spec"][
        "containers"
    ]
    assert environment(worker)["CLICKPATH_MODEL_REPOSITORY"] == "/models/versions"
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in worker["volumeMounts"]


def test_a_worker_follows_the_versions_that_triton_reads_on_the_volume() -> None:
    rendered = render("triton")
    (worker,) = rendered.one("Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    (server,) = rendered.one("Deployment", "triton")["spec"]["template"]["spec"]["containers"]
    repository = environment(worker)["CLICKPATH_MODEL_REPOSITORY"]
    assert f"--model-repository={repository}" in server["args"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in worker["volumeMounts"]


def test_a_worker_whose_triton_reads_s3_stays_with_one_version() -> None:
    (worker,) = render("triton-s3").one("Deployment", "worker")["spec"]["template"]["spec"][
        "containers"
    ]
    assert "CLICKPATH_MODEL_REPOSITORY" not in environment(worker)
    assert "models" not in [each["name"] for each in worker["volumeMounts"]]


@pytest.mark.parametrize(
    ("triton", "told"),
    [
        ({}, ["--repository=/models/versions"]),
        (
            {"enabled": True, "gpus": 0, "model": "mine"},
            ["--triton=/models/triton", "--name=mine", "--backend=python"],
        ),
        (
            {"enabled": True},
            ["--triton=/models/triton", "--name=clickpath", "--backend=onnxruntime"],
        ),
        ({"enabled": True, "repository": "s3://models/clickpath"}, []),
    ],
)
def test_a_refresh_leaves_its_candidates_where_the_workers_look(
    triton: dict[str, object], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"archive": {"enabled": True}, "trainer": {"enabled": True}, "triton": triton}
    job = render(values).one("CronJob", "trainer")["spec"]["jobTemplate"]["spec"]
    (trainer,) = job["template"]["spec"]["containers"]
    assert trainer["args"][6:] == told
    assert said_about(trainer["args"], capsys) == ""


def test_another_command_of_the_trainer_is_left_as_it_is() -> None:
    args = ["train", "--corpus=/archive", "--format=archive", "--out=/models/run"]
    values = {"archive": {"enabled": True}, "trainer": {"enabled": True, "args": args}}
    job = render(values).one("CronJob", "trainer")["spec"]["jobTemplate"]["spec"]
    assert job["template"]["spec"]["containers"][0]["args"] == args


def test_claims_are_shared_and_stay_when_the_release_goes() -> None:
    claims = render("everything").all("PersistentVolumeClaim")
    assert set(claims) == {"models", "archive"}
    for claim in claims.values():
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert claim["spec"]["storageClassName"] == "shared"


def test_prometheus_finds_workers_and_triton() -> None:
    rendered = render("everything")
    monitors = rendered.all("ServiceMonitor")
    assert set(monitors) == {"worker", "triton"}
    for name, monitor in monitors.items():
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        service = rendered.one("Service", name)
        labels = service["metadata"]["labels"].items()
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [each["name"] for each in service["spec"]["ports"]]


def test_the_alert_rules_go_to_prometheus_as_they_are_in_their_file() -> None:
    rules = render("everything").resources
    (rule,) = [each for each in rules if each["kind"] == "PrometheusRule"]
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    assert rule["spec"] == alerts
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_the_dashboard_goes_to_grafana_as_it_is_in_its_file() -> None:
    dashboard = render("everything").one("ConfigMap", "dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    text = (CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    assert json.loads(dashboard["data"]["clickpath.json"]) == json.loads(text)


def test_helm_test_asks_every_worker_whether_it_is_ready() -> None:
    pod = render().one("Pod", "test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    compile(container["args"][0], "helm test", "exec")
    assert '"shop-clickpath-worker"' in container["args"][0]


def test_notes_tell_what_to_do_next() -> None:
    done = helm("install", "shop", str(CHART), "--dry-run=client", "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:\n")[2]
    assert "helm test shop --namespace prod" in notes
    assert "port-forward deployment/shop-clickpath-worker 6066" in notes
