"""Writes what the chart takes from elsewhere: `python -m helm.describe`.

`README.md` ends with a table of `values.yaml`, whose comments are the meanings; `files/topics.json`
holds the topics that a worker needs, as `stream.topics` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from stream.topics import Topics

CHART = Path(__file__).resolve().parent / "clickpath"
MARK = "<!-- Below: written by `make reference` from values.yaml; edits here are lost. -->\n"
#: Stands for the application's id, which begins some names.
APP_ID = "{app_id}"


class Value(NamedTuple):
    """A line of the table."""

    path: str
    default: object
    meaning: str


def values(text: str) -> Iterator[Value]:
    """Every value of a values.yaml that has a sentence above it, in order."""
    defaults = yaml.safe_load(text)
    parents: list[tuple[int, str]] = []
    meaning: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if bare.startswith("# "):
            meaning.append(bare[2:])
            continue
        key, colon, _ = bare.partition(":")
        if colon and key.isidentifier():
            parents = [each for each in parents if each[0] < indent] + [(indent, key)]
            if meaning:
                path = [name for _, name in parents]
                yield Value(".".join(path), _at(defaults, path), " ".join(meaning))
        meaning = []


def _at(tree: object, path: list[str]) -> object:
    for name in path:
        assert isinstance(tree, dict)
        tree = tree[name]
    return tree


def table(text: str) -> str:
    """The values of a values.yaml as a table in Markdown."""
    rows = (
        f"| `{each.path}` | `{json.dumps(each.default)}` | {each.meaning} |"
        for each in values(text)
    )
    return "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows, ""])


def files() -> Mapping[Path, str]:
    """The text of every file that is written, by its path."""
    readme = CHART / "README.md"
    introduction, _, _ = readme.read_text(encoding="utf-8").partition(MARK)
    described = table((CHART / "values.yaml").read_text(encoding="utf-8"))
    topics = Topics(changelog=f"{APP_ID}-users-changelog").configs()
    return {
        readme: f"{introduction}{MARK}\n{described}",
        CHART / "files" / "topics.json": json.dumps(dict(topics), indent=2) + "\n",
    }


def main() -> None:
    """Writes the files that are not up to date."""
    for path, text in files().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
