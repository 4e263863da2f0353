"""The chart as `helm template` renders it, and the tools that it is rendered and checked with."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "clickpath"
MATRIX = sorted((Path(__file__).parent / "values").glob("*.yaml"))
RELEASE = "shop"
NAMESPACE = "prod"
#: The part of an apiVersion that stands for Strimzi's, KEDA's and Prometheus' operators.
CUSTOM_GROUPS = ("kafka.strimzi.io", "keda.sh", "monitoring.coreos.com")

Resource = dict[str, Any]


@cache
def made(target: str) -> Path:
    """What a make target builds and prints the place of, or a skip with the reason."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--silent", target], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"make {target} failed: {done.stderr.strip().splitlines()[-1]}")
    return Path(done.stdout.strip().splitlines()[-1])


def helm(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Runs helm; `given` is its standard input."""
    return subprocess.run(
        [str(made("chart-tools") / "helm"), *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@dataclass(frozen=True)
class Rendered:
    """All resources of one release."""

    resources: list[Resource] = field(repr=False)

    def all(self, kind: str) -> dict[str, Resource]:
        """The resources of a kind by their name, without the release's."""
        return {
            each["metadata"]["name"].removeprefix(f"{RELEASE}-clickpath-"): each
            for each in self.resources
            if each["kind"] == kind
        }

    def one(self, kind: str, name: str) -> Resource:
        """The resource of this kind and name."""
        return self.all(kind)[name]

    def pods(self) -> Iterator[tuple[str, Resource]]:
        """What every pod of the release is made from: kind and name, pod template."""
        for each in self.resources:
            kind, name, spec = each["kind"], each["metadata"]["name"], each.get("spec", {})
            if kind == "Pod":
                yield f"{kind} {name}", each
            elif kind == "CronJob":
                yield f"{kind} {name}", spec["jobTemplate"]["spec"]["template"]
            elif kind in ("Deployment", "StatefulSet", "Job"):
                yield f"{kind} {name}", spec["template"]


def render(values: str | Mapping[str, object] = "default") -> Rendered:
    """The chart with one of the sets in values/, or with values given as a mapping."""
    if isinstance(values, str):
        return _rendered((Path(__file__).parent / "values" / f"{values}.yaml").read_text())
    return _rendered(json.dumps(values))


@cache
def _rendered(values: str) -> Rendered:
    done = helm(
        "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-", given=values
    )
    assert done.returncode == 0, done.stderr
    return Rendered([each for each in yaml.safe_load_all(done.stdout) if each])


def refusal(values: Mapping[str, object]) -> str:
    """What helm says about values that it does not take."""
    done = helm("template", RELEASE, str(CHART), "--values", "-", given=json.dumps(values))
    assert done.returncode != 0, "helm took them"
    return done.stderr


def environment(container: Resource, pod: str = "shop-clickpath-worker-0") -> dict[str, str]:
    """The variables that a container starts with; a reference to the pod's name is followed."""
    return {each["name"]: each.get("value", pod) for each in container.get("env", ())}
