"""`clickpath audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window
from training.audit import compared, decisions_of_archive, decisions_of_lines
from training.corpus import ARCHIVE, CORPUS_FORMATS, corpus_at


def audit(argv: Sequence[str]) -> int:
    """Runs the command; 1 when a decision is not confirmed."""
    parser = CommandParser(
        prog="clickpath audit",
        description="Replays clicks as for training, and compares what is encoded with what the "
        "worker decided on.",
    )
    parser.add_argument("corpus", metavar="PATH", help="the clicks, as the worker got them")
    parser.add_argument(
        "--format",
        default="clickpath",
        choices=sorted(CORPUS_FORMATS),
        help="of the clicks; default clickpath",
    )
    parser.add_argument(
        "--decisions", metavar="FILE", help="records, a line each; not needed for an archive"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    options = parser.parse_args(argv)
    if options.decisions is not None:
        decisions = decisions_of_lines(Path(options.decisions))
    elif options.format == ARCHIVE:
        decisions = decisions_of_archive(options.corpus)
    else:
        raise UsageError("--decisions is missing: only an archive holds them itself")
    begun_s = perf_counter()
    found = compared(corpus_at(options.corpus, options.format), decisions, Encoder(Window()))
    seconds = perf_counter() - begun_s
    print(
        f"{found.decisions:,} decisions, {found.mismatches:,} mismatches "
        f"({found.different:,} encoded otherwise, {found.missing:,} not met) "
        f"in {found.clicks:,} clicks, {seconds:.0f} s"
    )
    if options.json:
        record = {**asdict(found), "mismatches": found.mismatches, "seconds": round(seconds, 1)}
        print(json.dumps(record))
    return 1 if found.mismatches else 0
