"""The Dockerfile: linted, pinned, nobody is root, the worker has no torch; bills of materials."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.chart import made
from tests.deploy.dockerfile import ROOT, TEXT, stages

pytestmark = pytest.mark.compose

IMAGES = ("worker", "trainer", "triton")
PACKAGES = {"worker": "worker.txt", "trainer": "trainer.txt", "triton": "triton-cpu.txt"}


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [made("chart-tools") / "hadolint", "-"], input=text, capture_output=True, text=True
    )


def locked(name: str) -> set[str]:
    text = (ROOT / "requirements" / PACKAGES[name]).read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9.-]+)==", text, flags=re.MULTILINE))


def test_the_dockerfile_is_linted_without_a_word() -> None:
    done = hadolint(TEXT)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_bad_dockerfile_is_seen() -> None:
    assert hadolint(TEXT.replace("# hadolint ignore=DL3008\n", "")).returncode == 1


@pytest.mark.parametrize("name", IMAGES)
def test_nobody_is_root_at_run_time(name: str) -> None:
    uid, _, gid = stages()[name].last("USER").partition(":")
    assert int(uid) >= 1000
    assert uid == gid


def test_every_base_can_be_held_by_a_digest() -> None:
    bases = {stage.base for stage in stages().values()} - set(stages())
    assert bases == {
        f"${{{name}_IMAGE}}${{{name}_DIGEST:+@}}${{{name}_DIGEST}}" for name in ("PYTHON", "TRITON")
    }
    for name in re.findall(r"ARG (\w+)_IMAGE=\S+:[\w.-]*\d", TEXT):
        assert f"ARG {name}_DIGEST=\n" in TEXT


def test_packages_are_installed_with_their_hashes_from_what_is_locked() -> None:
    installs = [
        text
        for stage in stages().values()
        for kind, text in stage.steps
        if kind == "RUN" and "pip" in text
    ]
    assert len(installs) == len(PACKAGES)
    for text in installs:
        assert "--require-hashes" in text
        assert "--no-deps" in text
        assert "--only-binary :all:" in text
    for lock in PACKAGES.values():
        assert f"COPY requirements/{lock} /requirements.txt\n" in TEXT


def test_what_is_copied_is_there_and_let_through() -> None:
    let_through = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(\S+) ", TEXT, re.MULTILINE)
    assert {each.partition("/")[0] for each in copied} == set(let_through)
    assert [each for each in copied if not (ROOT / each).exists()] == []


def test_the_worker_has_what_its_settings_may_ask_for_and_no_torch() -> None:
    worker = locked("worker")
    assert {"faust-streaming", "onnxruntime", "tritonclient", "rocksdict", "pyarrow"} <= worker
    assert {"cryptography", "opentelemetry-sdk", "python-json-logger", "purgatory"} <= worker
    assert {
        each for each in worker if re.match(r"torch|transformers|nvidia|cuda|triton$", each)
    } == set()
    assert worker - {"triton"} < locked("trainer")
    assert "torch" in locked("trainer")


@pytest.mark.parametrize("name", ["worker"])
def test_a_bill_of_materials_names_what_is_in_the_image(name: str, tmp_path: Path) -> None:
    out = tmp_path / f"{name}.cdx.json"
    tools, venv = made("chart-tools"), made("worker-packages").parent
    command = [tools / "python", "requirements/sbom", f"requirements/{PACKAGES[name]}", venv, out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    bill = json.loads(out.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "clickpath")
    named = {re.sub(r"[-_.]+", "-", each["name"]).lower() for each in bill["components"]}
    assert named <= locked(name)
    assert {"faust-streaming", "onnxruntime", "tritonclient"} <= named
    with_licence = [each for each in bill["components"] if each.get("licenses")]
    assert len(with_licence) > 0.9 * len(named)
