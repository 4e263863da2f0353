"""`clickpath benchmark diginetica`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from clickpath.cli import CommandParser
from clickpath.errors import UsageError
from training.benchmark import real_data

if TYPE_CHECKING:
    from training.sessions.protocol import Figures, Outcome


def diginetica(argv: Sequence[str]) -> int:
    """Runs the command."""
    started_s = monotonic()
    options = _parser().parse_args(argv)
    if not options.minutes > 0:
        raise UsageError(f"--minutes is {options.minutes}, must be above 0")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads is {options.threads}, must be at least 1")
    if (options.train is None) != (options.test is None):
        raise UsageError("--train and --test go together")
    folder = real_data() / "diginetica_sessions"
    train = Path(options.train or folder / "train_sessions.txt.gz")
    test = Path(options.test or folder / "test_prefixes.tsv.gz")
    # Only now: torch takes seconds to import.
    import torch

    from training.sessions.log import read_prefixes, read_sessions
    from training.sessions.protocol import BenchmarkConfig, run

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    sessions, rows = read_sessions(train)
    prefixes = read_prefixes(test, rows)
    outcome = run(
        sessions,
        len(rows) + 1,
        prefixes,
        BenchmarkConfig(minutes=options.minutes),
        started_s,
        lambda line: print(f"{monotonic() - started_s:5.0f} s  {line}", file=sys.stderr),
    )
    print(f"{len(sessions):,} sessions, {len(rows):,} items, {len(prefixes):,} test prefixes")
    print(f"{'HR@20 / MRR@20':<16}{'model':>15}{'kNN':>15}{'fused':>15}")
    for name, figures in (("held-out", outcome.valid), ("test", outcome.test)):
        print(f"{name:<16}{_cells(figures)}")
    print(f"kNN weight {outcome.knn_weight}, {outcome.seconds:.0f} s in all")
    if options.json:
        record = {"train": str(train), "test": str(test), "threads": torch.get_num_threads()}
        print(json.dumps({**record, **_record(outcome)}))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="clickpath benchmark diginetica",
        description="Next item on the Diginetica sessions, or on any log in the same form: trains "
        "from nothing, then ranks the next item of every test prefix among all items.",
    )
    parser.add_argument(
        "--train", metavar="FILE", help="item ids, one session a line, oldest first; may be gzipped"
    )
    parser.add_argument("--test", metavar="FILE", help="item ids, a tab, the next item's id")
    parser.add_argument(
        "--minutes", type=float, default=13.0, help="wall time of the whole; default 13"
    )
    parser.add_argument("--threads", type=int, help="CPU threads; default all cores")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def _cells(figures: Figures) -> str:
    return "".join(
        f"{hit:>7.2f} / {reciprocal:5.2f}"
        for hit, reciprocal in (figures.model, figures.knn, figures.fused)
    )


def _record(outcome: Outcome) -> dict[str, object]:
    return {
        part: {
            who: {"hr@20": round(hit, 3), "mrr@20": round(reciprocal, 3)}
            for who, (hit, reciprocal) in asdict(figures).items()
        }
        for part, figures in (("valid", outcome.valid), ("test", outcome.test))
    } | {
        "knn_weight": outcome.knn_weight,
        "trained": asdict(outcome.trained),
        "seconds": round(outcome.seconds, 1),
    }
