"""`clickpath policy`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clickpath.cli import main
from clickpath.policy_file import default_policy


def test_lint_names_every_mistake_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nname: x\nkinds: {cupon: {}}\nexplore: 3\n")

    assert main(["policy", "lint", str(file), "--json"]) == 1

    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{file}:3: kinds.cupon is not a known key; did you mean coupon?",
        f"{file}:4: explore is not a known key; did you mean explore_pct?",
    ]
    report = json.loads(last)
    assert report["valid"] is False
    assert [mistake["line"] for mistake in report["mistakes"]] == [3, 4]


def test_the_shown_text_is_a_valid_file_with_the_same_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "show", "--yaml"]) == 0
    file = tmp_path / "mine.yaml"
    file.write_text(capsys.readouterr().out)

    assert main(["policy", "lint", str(file), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["digest"] == default_policy().digest


def test_show_prints_the_meaning_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["digest"] == default_policy().digest
    assert len(shown["kinds"]) == 6


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    file = tmp_path / "p.yaml"
    if content is not None:
        file.write_bytes(content)

    assert main(["policy", "lint", str(file)]) == 2

    assert capsys.readouterr().err.count("\n") == 1
