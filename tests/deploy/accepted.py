"""Whether `clickpath` takes a command line, without running it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clickpath.cli import main

_UNKNOWN = "--no-such-option"


def said_about(command: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What `clickpath` finds wrong with a command line; empty for nothing.

    An option that no command knows is added, so that the command ends before it does anything; it
    has to be the only thing that is wrong.
    """
    assert main([*command, _UNKNOWN]) == 2
    said = capsys.readouterr().err
    return "" if f"unrecognized arguments: {_UNKNOWN};" in said else said
