"""Pods keep to the restricted standard; nothing but the needed ways is open; secrets are files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.chart import MATRIX, environment, render
from tests.deploy.restricted import violations

pytestmark = pytest.mark.chart

Pod = dict[str, Any]


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_every_pod_keeps_to_the_restricted_standard(values: Any) -> None:
    for name, pod in render(values.stem).pods():
        assert [*violations(pod["spec"])] == [], name


def _container(pod: Pod) -> Pod:
    return pod["containers"][0]


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork"),
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
        (lambda pod: pod["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda pod: pod["volumes"].append({"name": "x", "hostPath": {}}), "volume x is hostPath"),
        (lambda pod: _container(pod).pop("securityContext"), "allowPrivilegeEscalation"),
        (lambda pod: _container(pod)["ports"][0].update(hostPort=1), "hostPort"),
        (
            lambda pod: _container(pod)["securityContext"]["capabilities"].update(add=["X"]),
            "capabilities.add",
        ),
    ],
)
def test_a_pod_against_the_standard_is_seen(spoil: Callable[[Pod], object], seen: str) -> None:
    pod = copy.deepcopy(render().one("Deployment", "worker")["spec"]["template"]["spec"])
    spoil(pod)
    assert any(seen in each for each in violations(pod))


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_every_root_file_system_is_read_only_and_no_pod_has_a_token(values: Any) -> None:
    for name, pod in render(values.stem).pods():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert "memory" in container["resources"]["limits"], name


def test_all_that_is_not_allowed_is_denied() -> None:
    rendered = render("everything")
    deny = rendered.one("NetworkPolicy", "deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    for name, pod in rendered.pods():
        labels = pod["metadata"]["labels"].items()
        assert deny["podSelector"]["matchLabels"].items() <= labels, name


def test_a_pod_that_needs_a_way_out_has_its_own_policy() -> None:
    rendered = render("everything")
    selectors = [
        each["spec"]["podSelector"]["matchLabels"]
        for name, each in rendered.all("NetworkPolicy").items()
        if name != "deny"
    ]
    for name, pod in rendered.pods():
        labels = pod["metadata"]["labels"].items()
        assert sum(each.items() <= labels for each in selectors) == 1, name


def test_workers_reach_names_brokers_and_triton_and_nothing_else() -> None:
    policy = render("everything").one("NetworkPolicy", "worker")["spec"]
    names, brokers, triton, collector = policy["egress"]
    assert [(each["port"], each["protocol"]) for each in names["ports"]] == [
        (53, "UDP"),
        (53, "TCP"),
    ]
    assert [each["port"] for each in brokers["ports"]] == [9094, 9092]
    assert triton["ports"] == [{"port": "grpc"}]
    assert triton["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "triton"
    assert collector == {"ports": [{"port": 4318, "protocol": "TCP"}]}


def test_the_brokers_ports_come_from_their_addresses() -> None:
    policy = render("keda").one("NetworkPolicy", "worker")["spec"]
    assert [each["port"] for each in policy["egress"][1]["ports"]] == [9094, 9095]
    plain = render({"kafka": {"bootstrapServers": "kafka"}}).one("NetworkPolicy", "worker")["spec"]
    assert [each["port"] for each in plain["egress"][1]["ports"]] == [9092]


def test_metrics_are_read_by_monitoring_and_triton_is_asked_by_workers_and_the_trainer() -> None:
    rendered = render("everything")
    monitoring = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    }
    (way,) = rendered.one("NetworkPolicy", "worker")["spec"]["ingress"]
    assert way["ports"] == [{"port": "http"}]
    assert monitoring in way["from"]
    calls, metrics = rendered.one("NetworkPolicy", "triton")["spec"]["ingress"]
    assert [
        each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in calls["from"]
    ] == ["worker", "trainer"]
    assert metrics == {"ports": [{"port": "metrics"}], "from": [monitoring]}


def test_there_are_no_policies_when_they_are_off() -> None:
    assert render({"networkPolicy": {"enabled": False}}).all("NetworkPolicy") == {}


def test_the_topics_job_needs_nothing_that_is_not_there_yet() -> None:
    """It runs before all but hooks: no service account, config map or policy of the release."""
    rendered = render("sasl")
    job, policy = rendered.one("Job", "topics"), rendered.one("NetworkPolicy", "topics")
    weights = []
    for each in (policy, job):
        notes = each["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        weights.append(int(notes["helm.sh/hook-weight"]))
    assert weights == sorted(weights)
    pod = job["spec"]["template"]
    assert "serviceAccountName" not in pod["spec"]
    assert policy["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    for volume in pod["spec"]["volumes"]:
        assert set(volume) == {"name", "projected"}


def test_secrets_are_files_of_existing_secrets() -> None:
    rendered = render("sasl")
    assert rendered.all("Secret") == {}
    worker = rendered.one("Deployment", "worker")["spec"]["template"]["spec"]
    variables = environment(worker["containers"][0])
    assert variables["CLICKPATH_SASL_PASSWORD_FILE"] == "/etc/clickpath/kafka/password"
    assert variables["CLICKPATH_SSL_CA_FILE"] == "/etc/clickpath/kafka/ca.crt"
    assert variables["CLICKPATH_PSEUDONYM_KEY_FILE"] == (
        "/etc/clickpath/secrets/PSEUDONYM_KEY_FILE"
    )
    assert "CLICKPATH_SSL_CERT_FILE" not in variables
    volumes = {each["name"]: each for each in worker["volumes"]}
    assert volumes["kafka"]["projected"]["sources"] == [
        {"secret": {"name": "kafka-user", "items": [{"key": "pass", "path": "password"}]}},
        {"secret": {"name": "company-ca", "items": [{"key": "root.pem", "path": "ca.crt"}]}},
    ]
    assert volumes["secrets"]["projected"]["sources"] == [
        {"secret": {"name": "pseudonyms", "items": [{"key": "key", "path": "PSEUDONYM_KEY_FILE"}]}}
    ]


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_every_file_that_a_setting_names_is_mounted(values: Any) -> None:
    for name, pod in render(values.stem).pods():
        mounted = [
            f"{mount['mountPath']}/{item['path']}"
            for volume in pod["spec"].get("volumes", ())
            for source in volume.get("projected", {}).get("sources", ())
            for item in source["secret"].get("items", ())
            for mount in pod["spec"]["containers"][0]["volumeMounts"]
            if mount["name"] == volume["name"]
        ]
        # A secret that is mounted whole has the keys that its value says.
        mounted += [f"/etc/clickpath/triton/{each}" for each in ("tls.crt", "tls.key", "ca.crt")]
        for setting, value in environment(pod["spec"]["containers"][0]).items():
            if setting.endswith("_FILE"):
                assert value in mounted, f"{name}: {setting}"


def test_mutual_tls_to_triton_has_both_ends() -> None:
    rendered = render("triton")
    server = rendered.one("Deployment", "triton")["spec"]["template"]["spec"]
    arguments = server["containers"][0]["args"]
    assert {"--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1"} <= set(arguments)
    assert {"name": "tls", "secret": {"secretName": "triton-server", "defaultMode": 0o440}} in (
        server["volumes"]
    )
    worker = rendered.one("Deployment", "worker")["spec"]["template"]["spec"]
    variables = environment(worker["containers"][0])
    assert variables["CLICKPATH_TRITON_CERT_FILE"] == "/etc/clickpath/triton/tls.crt"
    assert variables["CLICKPATH_TRITON_ADMIN_KEY_FILE"] == "/etc/clickpath/triton/admin-key"
    assert json.dumps({"name": "triton-client"}) in json.dumps(worker["volumes"])


def test_loading_a_model_asks_for_the_key_which_is_no_value() -> None:
    (triton,) = render("triton").one("Deployment", "triton")["spec"]["template"]["spec"][
        "containers"
    ]
    assert (
        "--grpc-restricted-protocol=model-repository,model-config:admin-key=$(TRITON_ADMIN_KEY)"
        in (triton["args"])
    )
    assert triton["env"] == [
        {
            "name": "TRITON_ADMIN_KEY",
            "valueFrom": {"secretKeyRef": {"name": "triton-admin", "key": "admin-key"}},
        }
    ]
