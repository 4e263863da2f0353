"""`clickpath benchmark DATASET`: one public data set, its protocol from training to figures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from clickpath.cli import CommandParser

#: Where each data set's benchmark is: a function of the remaining arguments.
DATASETS: Final[dict[str, str]] = {
    "diginetica": "training.sessions.command:diginetica",
    "taobao": "training.taobao_command:taobao",
}


def benchmark(argv: Sequence[str]) -> int:
    """Runs the command."""
    parser = CommandParser(
        prog="clickpath benchmark",
        description="Runs the published protocol of a public data set, from training to figures.",
    )
    parser.add_argument("dataset", choices=sorted(DATASETS), help="which one")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="its options; see clickpath benchmark DATASET --help",
    )
    options = parser.parse_args(argv)
    module, _, function = DATASETS[options.dataset].partition(":")
    run: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
    return run(options.rest)


def real_data() -> Path:
    """The folder of the public data sets: CLICKPATH_REAL_DATA, or a shared one beside this tree."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("CLICKPATH_REAL_DATA", beside))
