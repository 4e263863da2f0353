"""The README tells the truth: its commands, targets, files and examples exist and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from clickpath.cli import COMMANDS
from stream.reference.pages import pages

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


class Block(NamedTuple):
    """A code block under the line `<!-- runnable -->`."""

    page: str
    line: int
    language: str
    code: str


def runnable_blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"<!-- runnable -->\n```(\w+)\n(.*?)\n```", text, flags=re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(page.name, line, match[1], match[2])


@pytest.fixture(scope="module")
def shell_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path on which `clickpath` and `python` are those of this checkout."""
    folder = tmp_path_factory.mktemp("bin")
    for name, arguments in (("clickpath", "-m clickpath"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    "block", [*runnable_blocks()], ids=lambda block: f"{block.page}:{block.line}"
)
def test_a_runnable_block_runs(block: Block, shell_path: str, tmp_path: Path) -> None:
    commands = {
        "sh": ["bash", "-euo", "pipefail", "-c", block.code],
        "python": [sys.executable, "-W", "error", "-c", block.code],
    }
    done = subprocess.run(
        commands[block.language],
        cwd=tmp_path,
        env={**os.environ, "PATH": shell_path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_a_runnable_example() -> None:
    assert "README.md" in {block.page for block in runnable_blocks()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"(?:^|`|\n|m )clickpath ([a-z]+)", "\n".join(code)))
    assert named <= set(COMMANDS)


def test_the_readme_names_every_command() -> None:
    assert {name for name in COMMANDS if f"`clickpath {name}" not in README} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_that_a_page_names_exists(page: Path) -> None:
    code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(code)))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", pages())
def test_a_page_that_is_written_from_the_code_is_up_to_date(name: str) -> None:
    path = ROOT / name
    there = path.read_text(encoding="utf-8") if path.is_file() else ""
    assert there == pages()[name], f"{name} is stale: run `make reference` and commit it"


def test_every_page_has_its_place_on_the_site() -> None:
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages_there = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    assert named == pages_there, "add the page to `nav` in mkdocs.yml"


def test_every_place_in_the_tree_exists() -> None:
    (block,) = re.findall(r"## Where things are\n\n```\n(.*?)```", README, flags=re.DOTALL)
    parent, missing = "", []
    for line in block.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        if not indent:
            parent = name
        place = name if not indent else parent + name
        if not (ROOT / place).exists():
            missing.append(place)
    assert missing == []


def test_the_readmes_test_command_is_the_one_of_continuous_integration() -> None:
    assert re.search(r"```console\n.*\bmake test\b", README, flags=re.DOTALL)
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
