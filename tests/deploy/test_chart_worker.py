"""How workers run, scale, spread and go."""

from __future__ import annotations

import pytest

from tests.deploy.chart import Resource, environment, render

pytestmark = pytest.mark.chart


def container_of(workload: Resource) -> Resource:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return container


def test_a_worker_without_a_disk_is_a_deployment() -> None:
    rendered = render()
    worker = rendered.one("Deployment", "worker")
    assert rendered.all("StatefulSet") == {}
    assert worker["spec"]["replicas"] == 2
    container = container_of(worker)
    assert container["args"] == ["worker"]
    assert container["image"] == "ghcr.io/clickpath/worker:0.1.0"
    assert environment(container)["CLICKPATH_BOOTSTRAP_SERVERS"] == "kafka:9092"


def test_a_worker_with_a_disk_is_a_stateful_set_with_a_claim_that_goes_with_it() -> None:
    rendered = render("stateful")
    assert rendered.all("Deployment") == {}
    worker = rendered.one("StatefulSet", "worker")["spec"]
    assert worker["serviceName"] == rendered.one("Service", "worker")["metadata"]["name"]
    (claim,) = worker["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"] == {"storage": "20Gi"}
    assert claim["spec"]["storageClassName"] == "fast"
    assert worker["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Delete",
        "whenScaled": "Delete",
    }
    container = container_of({"spec": worker})
    variables = environment(container, pod="shop-clickpath-worker-1")
    assert variables["CLICKPATH_STORE"] == "rocksdb"
    assert variables["CLICKPATH_INSTANCE_ID"] == "shop-clickpath-worker-1"
    assert {
        "name": claim["metadata"]["name"],
        "mountPath": variables["CLICKPATH_STORE_DIR"],
    } in container["volumeMounts"]


def test_static_membership_alone_is_a_stateful_set_without_a_claim() -> None:
    worker = render({"worker": {"staticMembership": True}}).one("StatefulSet", "worker")
    assert "volumeClaimTemplates" not in worker["spec"]


def test_workers_follow_the_partitions_of_others_where_the_values_say_so() -> None:
    worker = render({"worker": {"standbyReplicas": 2}}).one("Deployment", "worker")
    assert environment(container_of(worker))["CLICKPATH_STANDBY_REPLICAS"] == "2"
    usual = environment(container_of(render().one("Deployment", "worker")))
    assert "CLICKPATH_STANDBY_REPLICAS" not in usual


def test_a_digest_decides_what_runs() -> None:
    assert container_of(render("everything").one("StatefulSet", "worker"))["image"] == (
        "ghcr.io/clickpath/worker@sha256:" + "0" * 64
    )


def test_probes_ask_for_what_they_stand_for() -> None:
    container = container_of(render().one("Deployment", "worker"))
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["startupProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_a_new_policy_rolls_the_workers() -> None:
    old, new = (
        render({"worker": {"policy": f"version: 1\nname: {name}\n"}}) for name in ("a", "b")
    )
    marks = [
        each.one("Deployment", "worker")["spec"]["template"]["metadata"]["annotations"]
        for each in (old, new)
    ]
    assert marks[0] != marks[1]
    container = container_of(new.one("Deployment", "worker"))
    assert environment(container)["CLICKPATH_POLICY"] == "/etc/clickpath/policy/policy.yaml"
    assert new.one("ConfigMap", "worker-policy")["data"] == {"policy.yaml": "version: 1\nname: b\n"}


def test_the_services_and_budgets_select_the_pods_of_their_component() -> None:
    rendered = render("triton")
    for name in ("worker", "triton"):
        labels = rendered.one("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        service = rendered.one("Service", name)["spec"]
        assert service["clusterIP"] == "None"
        assert service["selector"] == labels
        budget = rendered.one("PodDisruptionBudget", name)["spec"]
        assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


def test_workers_spread_over_zones_and_nodes() -> None:
    pod = render().one("Deployment", "worker")["spec"]["template"]
    constraints = pod["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for each in constraints:
        assert each["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]


@pytest.mark.parametrize(
    ("values", "kind"), [("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")]
)
def test_a_scaled_worker_has_no_number_of_its_own(values: str, kind: str) -> None:
    rendered = render(values)
    worker = rendered.one("Deployment", "worker")
    assert "replicas" not in worker["spec"]
    target = rendered.one(kind, "worker")["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": worker["apiVersion"],
        "kind": worker["kind"],
        "name": worker["metadata"]["name"],
    }


def test_scaling_follows_a_stateful_set_too() -> None:
    target = render("everything").one("ScaledObject", "worker")["spec"]["scaleTargetRef"]
    assert target["kind"] == "StatefulSet"


def test_there_are_never_more_workers_than_partitions() -> None:
    assert render("keda").one("ScaledObject", "worker")["spec"]["maxReplicaCount"] == 8
    few = {"autoscaling": {"kind": "hpa", "minReplicas": 4}, "topics": {"partitions": 3}}
    spec = render(few).one("HorizontalPodAutoscaler", "worker")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 3)


def test_fewer_workers_must_be_enough_for_ten_minutes_before_one_goes() -> None:
    hpa = render("hpa").one("HorizontalPodAutoscaler", "worker")["spec"]["behavior"]
    keda = render("keda").one("ScaledObject", "worker")["spec"]["advanced"]
    assert hpa == keda["horizontalPodAutoscalerConfig"]["behavior"]
    assert hpa["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert hpa["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]


def test_keda_reads_the_lag_of_the_workers_group_with_the_workers_secrets() -> None:
    rendered = render("keda")
    (trigger,) = rendered.one("ScaledObject", "worker")["spec"]["triggers"]
    asked = trigger["metadata"]
    assert (asked["consumerGroup"], asked["topic"]) == ("clickpath", "clicks")
    assert (asked["sasl"], asked["tls"]) == ("scram_sha512", "enable")
    authentication = rendered.one("TriggerAuthentication", "worker")
    assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
    assert authentication["spec"] == {
        "env": [
            {"parameter": "username", "name": "CLICKPATH_SASL_USERNAME", "containerName": "worker"}
        ],
        "secretTargetRef": [
            {"parameter": "password", "name": "clickpath-kafka", "key": "password"},
            {"parameter": "ca", "name": "kafka-ca", "key": "ca.crt"},
        ],
    }


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_keda_needs_no_authentication_where_workers_need_none(protocol: str) -> None:
    rendered = render({"autoscaling": {"kind": "keda"}, "kafka": {"securityProtocol": protocol}})
    assert rendered.all("TriggerAuthentication") == {}
    assert "authenticationRef" not in rendered.one("ScaledObject", "worker")["spec"]["triggers"][0]
