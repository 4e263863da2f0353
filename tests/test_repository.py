"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("clickpath", "stream", "serving", "training")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
LOCKS = sorted([*ROOT.glob("requirements/*.txt"), *ROOT.glob("benchmarks/peers/*.txt")])


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


@cache
def tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"), filename=str(source))


def names_bound_in_functions(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Names of parameters, and of variables assigned anywhere in a module, with their lines."""
    for node in ast.walk(module):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def test_there_are_just_the_four_packages() -> None:
    assert tuple(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    found = {folder.parent.name for folder in ROOT.glob("*/__init__.py")}
    assert found - {"benchmarks"} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_the_one_of_this_repository(package: str) -> None:
    origin = import_module(package).__file__
    assert origin is not None
    assert Path(origin).resolve() == ROOT / package / "__init__.py"


def test_nothing_else_is_called_like_a_program() -> None:
    taken = [
        f"{source.relative_to(ROOT)}:{line} {name}"
        for source in sources(*PACKAGES, "benchmarks", "tests")
        for name, line in names_bound_in_functions(tree(source))
        if name in ("stream", "serving", "training")
    ]
    assert taken == []


def test_no_file_has_a_vague_name() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for folder in (*PACKAGES, "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*")
        if VAGUE_NAMES & set(re.split(r"[_.]", path.name))
    ]
    assert vague == []


def test_a_file_and_a_function_can_be_read_in_one_go() -> None:
    """About 300 lines a file and 60 a function with its docstring apart; with a margin."""
    long = []
    for source in sources(*PACKAGES, "benchmarks"):
        lines = len(source.read_text(encoding="utf-8").splitlines())
        if lines > 350:
            long.append(f"{source.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(tree(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and node.body[1:] else node.body[0]
                length = (node.end_lineno or node.lineno) - first.lineno + 1
                if length > 70:
                    long.append(f"{source.relative_to(ROOT)}: {node.name} has {length} lines")
    assert long == []


def test_there_are_no_packages_below_tests() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(source.relative_to(ROOT))
        for source in sources(*PACKAGES, "benchmarks")
        if ast.get_docstring(tree(source)) is None
    ]
    assert silent == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_pinned_requirement_has_hashes_and_names_no_index(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, flags=re.MULTILINE)
    requirements = [
        line
        for line in text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==[^ ]+ ", requirement)
        assert "--hash=sha256:" in requirement


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("demo", ("worker", "embedded")),
        ("test", tuple(PYPROJECT["project"]["optional-dependencies"])),
    ],
)
def test_the_pinned_requirements_cover_what_the_project_asks_for(
    lock: str, extras: tuple[str, ...]
) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", text, flags=re.MULTILINE))
    project = PYPROJECT["project"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    names = {re.split(r"[^A-Za-z0-9_.-]", entry)[0].lower().replace("_", "-") for entry in asked}
    assert names <= pinned


def test_the_worker_installs_without_torch() -> None:
    text = (ROOT / "requirements" / "demo.txt").read_text(encoding="utf-8")
    assert not re.search(r"^(torch|transformers|nvidia-\S+)==", text, flags=re.MULTILINE)


def test_make_help_fits_on_a_glance() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    targets = {line.split()[1] for line in listed}
    assert targets >= {"help", "demo", "test", "check", "bench", "bench-peers"}
    assert len(targets) <= 12


def test_continuous_integration_runs_the_checks_and_the_tests() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[-2:] == ["make check", "make test"]
    assert "set -euo pipefail" in lines


def test_a_wheel_holds_the_four_packages_with_their_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("clickpath-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert {"clickpath/default_policy.yaml", "serving/shipped/model.onnx"} <= files
    assert "serving/shipped/card.json" in files
