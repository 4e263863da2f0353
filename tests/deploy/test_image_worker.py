"""What the image `worker` would do, without a container engine: see contain.sh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from stream.broker import EmbeddedBroker
from stream.process import free_port
from tests.deploy.chart import environment, made, render
from tests.deploy.dockerfile import ROOT, stages

pytestmark = [pytest.mark.compose, pytest.mark.broker]

WORKER = stages()["worker"]


class Image:
    """Runs commands as containers of it."""

    def __init__(self, folder: Path, packages: Path) -> None:
        self._packages = packages
        self._app = folder / "app"
        self._room = folder / "rooms"
        self._room.mkdir()
        self.models = folder / "models"
        self.models.mkdir()
        for kind, text in stages()["code"].steps:
            if kind == "COPY":
                source, target = text.split()
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, self._app / target, ignore=unwanted)
        subprocess.run([sys.executable, "-m", "compileall", "-q", self._app], check=True)
        for each in [folder, *folder.parents]:
            if each.owner() == "root" and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)

    def start(
        self, command: list[str], environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        variables = {**WORKER.environment, **(environ or {})}
        variables["PATH"] = variables["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
        settings = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.Popen(
            [
                Path(__file__).with_name("contain.sh"),
                sys.base_prefix,
                self._packages,
                self._app,
                self.models,
                *settings,
                *command,
            ],
            env={**os.environ, "TMPDIR": str(self._room)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: list[str], environ: Mapping[str, str] | None = None) -> str:
        """Standard output of a command, which must end well."""
        started = self.start(command, environ)
        out, err = started.communicate(timeout=120)
        assert started.returncode == 0, err
        return out


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root on Linux can run a command in a root file system of its own")
    (packages,) = (made("worker-packages").parent / "lib").glob("python3.*/site-packages")
    image = Image(tmp_path_factory.mktemp("image"), packages)
    probe = image.start(["true"])
    _, said = probe.communicate(timeout=120)
    if probe.returncode != 0:
        pytest.skip(f"no overlay file system in a mount namespace here: {said.strip()}")
    return image


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


def test_the_image_has_no_torch_and_no_place_to_write_to(image: Image) -> None:
    assert image.run(["id", "-u"]).strip() == "10001"
    assert image.run([*WORKER.command[:-1], "--version"]).startswith("clickpath ")
    find = "from importlib.util import find_spec as f; print(f('torch'), f('onnxruntime') is None)"
    assert image.run(["python", "-c", find]) == "None False\n"
    for place in ("/x", "/app/x", "/venv/x"):
        refused = image.start(["touch", place])
        assert "Read-only file system" in refused.communicate(timeout=120)[1]


def test_the_chart_runs_the_image_from_topics_to_interventions(image: Image, brokers: str) -> None:
    port = free_port()
    rendered = render(
        {
            "kafka": {"bootstrapServers": brokers},
            "topics": {"partitions": 2, "replicationFactor": 1},
            "worker": {"settings": {"SESSION_TIMEOUT_S": 6}},
        }
    )
    (job,) = rendered.one("Job", "topics")["spec"]["template"]["spec"]["containers"]
    (worker,) = rendered.one("Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    # The port is fixed where every pod has an address of its own; this machine has one for all.
    settings = {**environment(worker), "CLICKPATH_WEB_PORT": str(port)}
    entry = WORKER.command[:-1]
    created = image.run([*entry, *job["args"], "--json"], environment(job))
    assert "clicks" in json.loads(created.splitlines()[-1])["created"]
    shop = ["simulate", "--events=3000", "--users=100", f"--bootstrap-servers={brokers}"]
    image.run([*entry, *shop])
    running = image.start([*entry, *worker["args"]], settings)
    try:
        assert answer(port, worker["readinessProbe"]["httpGet"]["path"])["ok"]
        assert answer(port, worker["livenessProbe"]["httpGet"]["path"])["ok"]
        image.run(WORKER.health_check, settings)
        assert sent(port) > 0
    finally:
        running.terminate()
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert "Traceback" not in out + err


def test_compose_gives_triton_the_shipped_model_once(image: Image) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["models"]
    command = [each.replace("$$", "$") for each in service["entrypoint"]] + service["command"]
    image.run(command)
    image.run(command)
    home = image.models / "triton" / "clickpath"
    assert {each.name for each in home.iterdir()} == {"1", "config.pbtxt"}
    assert (home / "1" / "model.py").is_file()
    # Triton reads it as somebody else.
    assert all(each.stat().st_mode & 0o004 for each in home.rglob("*"))


def answer(port: int, path: str) -> dict[str, object]:
    """The first good answer of a probe."""
    return json.loads(page(port, path, lambda _: True))


def sent(port: int) -> float:
    """The first number of interventions above none."""
    text = page(port, "/metrics", lambda text: "clickpath_interventions_total{" in text)
    lines = [each for each in text.splitlines() if each.startswith("clickpath_interventions_total")]
    return sum(float(each.rpartition(" ")[2]) for each in lines)


def page(port: int, path: str, good: Callable[[str], bool]) -> str:
    deadline_s = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answered:
                text = answered.read().decode()
                if good(text):
                    return text
        except OSError:
            if time.monotonic() > deadline_s:
                raise
        assert time.monotonic() < deadline_s, f"{path} never said what was waited for"
        time.sleep(0.1)
