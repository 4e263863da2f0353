"""All files that are written from the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream.reference.asyncapi import asyncapi_yaml
from stream.reference.dashboard import dashboard_json
from stream.reference.schemas import schema_json, schemas
from stream.reference.tables import commands_page, metrics_page, settings_page


def pages() -> Mapping[str, str]:
    """The text of every file by its path in the repository."""
    return {
        "docs/asyncapi.yaml": asyncapi_yaml(),
        **{f"docs/schemas/{name}.json": schema_json(each) for name, each in schemas().items()},
        "docs/commands.md": commands_page(),
        "docs/metrics.md": metrics_page(),
        "docs/settings.md": settings_page(),
        "helm/clickpath/files/dashboard.json": dashboard_json(),
    }


def write(root: Path) -> list[str]:
    """Writes the files that are not up to date; returns their paths below `root`."""
    stale = {name: text for name, text in pages().items() if _read(root / name) != text}
    for name, text in stale.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [*stale]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
