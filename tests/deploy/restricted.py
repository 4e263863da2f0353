"""The restricted Pod Security Standard, as Kubernetes' documentation lists its controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def violations(pod: dict[str, Any]) -> Iterator[str]:
    """What a pod's specification does against the standard, restricted and baseline."""
    outer = pod.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", ()):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is {kinds.pop()}"
    if outer.get("sysctls"):
        yield "sysctls"
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        for wrong in _violations(container, outer):
            yield f"{container['name']}: {wrong}"


def _violations(container: dict[str, Any], outer: dict[str, Any]) -> Iterator[str]:
    inner = container.get("securityContext", {})
    capabilities = inner.get("capabilities", {})
    if inner.get("privileged"):
        yield "privileged"
    if inner.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities.drop"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if not inner.get("runAsNonRoot", outer.get("runAsNonRoot")):
        yield "runAsNonRoot"
    if inner.get("runAsUser", outer.get("runAsUser")) == 0:
        yield "runAsUser"
    profile = inner.get("seccompProfile", outer.get("seccompProfile", {})).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if inner.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
