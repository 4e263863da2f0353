"""Metrics, settings and commands as pages of Markdown."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from clickpath.cli import COMMANDS
from stream.metrics import Metrics
from stream.settings import PREFIX, Settings

#: How wide the help of a command is written.
_COLUMNS: Final = "100"

#: Types of settings as a reader calls them.
_TYPES: Final[dict[Any, str]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true`, `false`",
}

_NOTE: Final = "<!-- Written by `make reference` from the code; edits here are lost. -->\n\n"


def metrics_page() -> str:
    """Every metric with its type, labels and meaning."""
    rows = (
        (f"`{each.name}`", each.type, _codes(each.labels), each.meaning)
        for each in sorted(Metrics().described, key=lambda each: each.name)
    )
    return (
        _NOTE + "# Metrics\n\n"
        "A worker serves them at `/metrics` of its health pages, in Prometheus' text format. A\n"
        "histogram has the series `_bucket`, `_sum` and `_count`. [Operations](operations.md)\n"
        "explains the alerts that look at them.\n\n"
        + _table(("metric", "type", "labels", "meaning"), rows)
    )


def settings_page() -> str:
    """Every setting with its default, its values and its meaning."""
    rows = (
        (f"`{PREFIX}{name.upper()}`", _values(field), _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    )
    return (
        _NOTE + "# Settings\n\n"
        "A worker reads them once, when it starts, from its environment. A variable with this\n"
        "prefix that is no setting, a value that cannot be, or settings that contradict one\n"
        "another are one sentence and exit code 2. One that another leaves without effect is a\n"
        "warning in the log at the start, with both names and values.\n\n"
        + _table(("variable", "values", "default", "meaning"), rows)
    )


def commands_page() -> str:
    """Every command with its help."""
    parts = [
        _NOTE + "# Commands\n\n"
        "`clickpath COMMAND`, or `python -m clickpath COMMAND`. Exit codes: 0 done, 1 failed,\n"
        "2 wrong usage or configuration.\n"
    ]
    parts += [
        f"\n## clickpath {name}\n\n{_sentence(command.summary)}\n\n```text\n{_help(name)}```\n"
        for name, command in COMMANDS.items()
    ]
    return "".join(parts)


def _help(name: str) -> str:
    module, _, function = COMMANDS[name].target.partition(":")
    command = getattr(import_module(module), function)
    said, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    try:
        with redirect_stdout(said):
            command(["--help"])
    except SystemExit:
        return said.getvalue()
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    raise AssertionError(f"clickpath {name} --help does not end the command")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _values(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return _codes(str(each) for each in get_args(kind))
    name = _TYPES.get(kind, str(kind))
    bounds = [
        f"{sign} {getattr(rule, attribute):,}"
        for rule in field.metadata
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if hasattr(rule, attribute)
    ]
    return " ".join((name, ", ".join(bounds))).strip()


def _default(field: FieldInfo) -> str:
    text = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"`{text}`" if text else ""


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )
