"""How a program logs: lines of text for a person, or one JSON object a line for a log store.

    {"time": "2026-01-31T12:00:00.123Z", "level": "INFO", "logger": "stream.running",
     "message": "...", "exc_info": "..."}

Nothing that is logged names a user or quotes an event: what was wrong with one stands in the
headers of its dead letter, on a topic with rights of its own.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from stream.settings import Settings

_TEXT: Final = "%(asctime)s %(levelname)s {program}%(name)s: %(message)s"
_RENAMED: Final = {"asctime": "time", "levelname": "level", "name": "logger"}


def set_up_logging(settings: Settings, program: str = "") -> None:
    """Sets logging up for this process, on stderr.

    Args:
        settings: Level and format.
        program: Marks the lines of a program that shares its stderr with another one.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        _json_lines(program) if settings.log_format == "json" else _text_lines(program)
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler])


def _text_lines(program: str) -> logging.Formatter:
    return logging.Formatter(_TEXT.format(program=f"{program} " if program else ""))


def _json_lines(program: str) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    formatter = JsonFormatter(
        ["asctime", "levelname", "name", "message"],
        rename_fields=_RENAMED,
        static_fields={"program": program} if program else None,
    )
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03dZ"
    return formatter
