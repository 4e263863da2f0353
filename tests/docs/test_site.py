"""`make docs` builds the site, and a dead link, a dead anchor or a forgotten page turns it red."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documentation, to be broken; with what it links to outside of docs/."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for outside in ("tests", "helm/clickpath"):
        (tmp_path / outside).mkdir(parents=True)
        shutil.copy(ROOT / outside / "README.md", tmp_path / outside)
    return tmp_path


def make_docs(folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: v for name, v in os.environ.items() if not name.startswith("MAKE")}
    arguments = [f"DOCS={folder / 'mkdocs.yml'}", f"SITE={folder / 'site'}"]
    return subprocess.run(
        ["make", "--no-print-directory", "docs", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_is_built(copy: Path) -> None:
    done = make_docs(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (copy / "site" / "operations.html").is_file()
    assert (copy / "site" / "schemas" / "click.json").is_file()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[there](nowhere.md)", "nowhere.md"),
        ("[there](metrics.md#no-such-heading)", "no-such-heading"),
        ("[there](#no-such-heading)", "no-such-heading"),
        ("[there](../nowhere/README.md)", "nowhere/README.md"),
        ('<a href="nowhere.html">there</a>', "nowhere.html"),
        ("![picture](nowhere.svg)", "nowhere.svg"),
        ('<img src="https://example.org/x.png">', "example.org"),
    ],
)
def test_a_dead_link_turns_it_red(copy: Path, line: str, said: str) -> None:
    with (copy / "docs" / "scaling.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{line}\n")
    done = make_docs(copy)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_a_page_without_a_place_turns_it_red(copy: Path) -> None:
    (copy / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    done = make_docs(copy)
    assert done.returncode != 0
    assert "forgotten.md" in done.stdout + done.stderr
