"""All files of docs/ that are written from the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream.reference.tables import commands_page, metrics_page, settings_page


def pages() -> Mapping[str, str]:
    """The text of every file by its path below docs/."""
    return {
        "commands.md": commands_page(),
        "metrics.md": metrics_page(),
        "settings.md": settings_page(),
    }


def write(docs: Path) -> list[str]:
    """Writes the files that are not up to date; returns their paths below `docs`."""
    stale = {name: text for name, text in pages().items() if _read(docs / name) != text}
    for name, text in stale.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [*stale]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
