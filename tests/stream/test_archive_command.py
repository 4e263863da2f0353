"""`clickpath archive` and the worker's option: what is refused, with one sentence."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clickpath.cli import main
from stream.broker import EmbeddedBroker
from stream.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no archive is named: give --to ADDRESS, or set CLICKPATH_ARCHIVE"),
        (["--to", "nonsense://x"], "'nonsense://x' cannot hold an archive"),
        (["--to", "archive", "--bootstrap-servers", "127.0.0.1:1"], "no broker answers at 127"),
        (["--to", "archive", "--once", "--while-stdin"], "not allowed with argument --once"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["archive", *arguments]) == 2

    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_archive_of_another_group_is_refused_also_by_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "_archive" / "archive.json"
    card.parent.mkdir()
    card.write_text(json.dumps({"v": 1, "buckets": 8, "group": "other-archive"}))
    monkeypatch.setenv("CLICKPATH_ARCHIVE", str(tmp_path))

    for command in (["archive"], ["worker", "--model", "none"]):
        assert main(command) == 2
        assert "is written by the group other-archive" in capsys.readouterr().err


def test_the_page_on_the_archive_names_each_setting_with_its_default(repository: Path) -> None:
    page = (repository / "docs" / "archive.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `CLICKPATH_(ARCHIVE\w*)` \|.*\| ?(\S*) \|$", page, flags=re.MULTILINE)

    fields = {name: field for name, field in Settings.model_fields.items() if "archive" in name}
    assert {name.lower() for name, _ in rows} == set(fields)
    for name, default in rows:
        assert str(fields[name.lower()].default).removesuffix(".0") == default


@pytest.mark.broker
def test_topics_that_are_not_there_are_named(broker: EmbeddedBroker, tmp_path: Path) -> None:
    # In a process of its own: the test's loop runs already.
    done = subprocess.run(
        [sys.executable, "-m", "clickpath", "archive", "--to", str(tmp_path), "--once"],
        env={
            **os.environ,
            "CLICKPATH_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "CLICKPATH_CLICKS_TOPIC": "no-such-topic",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "there is no topic no-such-topic at" in done.stderr


def test_a_worker_without_the_option_loads_nothing_of_the_archive(repository: Path) -> None:
    code = (
        "import sys; from stream.app import create_app; from stream.settings import Settings;"
        "assert create_app(Settings(model='none'), None, lambda: 0).archive is None;"
        "print({'pyarrow', 'fsspec', 'stream.archive.app'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
