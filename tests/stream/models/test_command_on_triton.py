"""`clickpath models` where Triton serves: what is loaded is said before who decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clickpath.cli import main
from serving.embedded import shipped_model
from serving.repository.config import ServingPlan
from serving.repository.folder import TritonFolder
from serving.repository.versions import add_version
from stream.broker import EmbeddedBroker
from tests.serving.conftest import twin_of

pytestmark = pytest.mark.broker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TritonFolder:
    """A repository with the shipped model and two that are its equal; nobody serves it."""
    repository, plan = tmp_path / "repository", ServingPlan(backend="python")
    add_version(repository, shipped_model(), plan)
    for name in ("twin", "third"):
        add_version(repository, twin_of(shipped_model(), tmp_path / name, name), plan)
    monkeypatch.setenv("CLICKPATH_TRITON_URL", "127.0.0.1:1")
    monkeypatch.setenv("CLICKPATH_MODEL_REPOSITORY", str(repository))
    return TritonFolder(repository, "clickpath")


def policy(folder: TritonFolder) -> str:
    lines = (folder.folder / "config.pbtxt").read_text().splitlines()
    [line] = [each for each in lines if each.startswith("version_policy")]
    return line.partition("[ ")[2].partition(" ]")[0]


def test_a_promotion_names_what_is_loaded_and_the_first_version_is_the_champion(
    folder: TritonFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    champion, candidate, _ = folder.versions()
    with EmbeddedBroker() as broker:
        at = ["--bootstrap-servers", broker.bootstrap_servers, "--json"]
        assert main(["topics", "create", *at[:2]]) == 0
        assert main(["models", "promote", candidate, *at]) != 0
        assert "was never compared with a champion" in capsys.readouterr().err
        assert policy(folder) == "1, 2, 3"

        assert main(["models", "promote", candidate, "--force", *at]) == 0
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (said["champion"], said["candidate"]) == (champion, candidate)
        assert policy(folder) == "1, 2"

        assert main(["models", "list", *at]) == 0
        listed = json.loads(capsys.readouterr().out.splitlines()[-1])["versions"]
        assert [each["role"] for each in listed] == ["champion", "candidate", ""]
        assert main(["models", "list", *at[:2]]) == 0
        assert f"{candidate}  candidate  gate: none\n" in capsys.readouterr().out


def test_a_damaged_version_is_not_promoted_and_the_configuration_stays(
    folder: TritonFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = folder.versions()[1]
    with (folder.directory(candidate) / "model.onnx").open("ab") as graph:
        graph.write(b"0")
    before = policy(folder)
    with EmbeddedBroker() as broker:
        at = ["--bootstrap-servers", broker.bootstrap_servers]
        assert main(["topics", "create", *at]) == 0
        assert main(["models", "promote", candidate, "--force", *at]) == 1
    assert "model.onnx has digest" in capsys.readouterr().err
    assert policy(folder) == before


def test_how_triton_runs_a_version_has_to_be_said_where_it_is_added(
    folder: TritonFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "add", str(shipped_model())]) == 2
    assert "`clickpath triton repository DIR --model MODEL` adds one" in capsys.readouterr().err
