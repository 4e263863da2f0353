"""Arguments that several commands share."""

from __future__ import annotations

import json
import logging
import os
import time
from argparse import ArgumentTypeError
from collections.abc import Mapping
from math import inf, nan

from clickpath.cli import CommandParser
from stream.settings import Settings, load_settings


def parser(name: str, summary: str) -> CommandParser:
    """The parser of one command, with `--json`."""
    # The client's own lines about a broker that does not answer; the command says it in a sentence.
    # Where a program sets logging up, as the worker does, they are still logged.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    parser = CommandParser(prog=f"clickpath {name}", description=summary)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def add_brokers(parser: CommandParser, *, required: bool = False) -> None:
    """Adds `--bootstrap-servers`."""
    parser.add_argument(
        "--bootstrap-servers",
        required=required,
        metavar="HOST:PORT",
        help="Kafka brokers, comma-separated (else CLICKPATH_BOOTSTRAP_SERVERS)",
    )


def add_rate(parser: CommandParser) -> None:
    """Adds `--rate`."""
    parser.add_argument(
        "--rate", type=_rate, metavar="N", help="events a second; default: as fast as it goes"
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = nan
    if not 0 < rate < inf:
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return rate


def settings_of(**given: object) -> Settings:
    """The settings from the environment, under what the command line gives."""
    return load_settings(os.environ, **given)


def wall_clock_ms() -> int:
    """The present in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def print_result(result: Mapping[str, object], *, as_json: bool) -> None:
    """Prints a result: as one JSON object, or as one line a field."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    width = max(map(len, result))
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        print(f"{name.replace('_', ' '):<{width}}  {value}")
