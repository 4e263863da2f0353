"""What docs/ says of metrics, settings and commands is what the code says."""

from __future__ import annotations

from pathlib import Path

from clickpath.cli import COMMANDS
from stream.metrics import Metrics
from stream.reference.pages import pages, write
from stream.settings import Settings

PAGES = pages()


def test_every_metric_that_is_served_is_described() -> None:
    metrics = Metrics()
    served = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    assert served == {each.name for each in metrics.described}


def test_every_meaning_is_a_sentence() -> None:
    meanings = [each.meaning for each in Metrics().described]
    meanings += [field.description or "" for field in Settings.model_fields.values()]
    assert [each for each in meanings if not each.strip().endswith(".")] == []


def test_the_pages_name_every_metric_setting_and_command() -> None:
    for each in Metrics().described:
        assert f"| `{each.name}` | {each.type} |" in PAGES["docs/metrics.md"]
    for name in Settings.model_fields:
        assert f"| `CLICKPATH_{name.upper()}` |" in PAGES["docs/settings.md"]
    for name in COMMANDS:
        assert f"\n## clickpath {name}\n" in PAGES["docs/commands.md"]
        assert f"usage: clickpath {name} " in PAGES["docs/commands.md"]


def test_only_stale_pages_are_written(tmp_path: Path) -> None:
    assert write(tmp_path) == list(PAGES)
    (tmp_path / "docs" / "metrics.md").write_text("old", encoding="utf-8")
    assert write(tmp_path) == ["docs/metrics.md"]
    assert write(tmp_path) == []
