"""`clickpath benchmark taobao`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from clickpath.cli import CommandParser
from clickpath.errors import UsageError
from training.benchmark import real_data


def taobao(argv: Sequence[str]) -> int:
    """Runs the command."""
    started_s = monotonic()
    options = _parser().parse_args(argv)
    path = Path(options.log or real_data() / "taobao" / "UserBehavior.csv.gz")
    if not path.exists():
        raise UsageError(f"there is no log at {path}: give one with --log")
    if options.threads < 1:
        raise UsageError(f"--threads is {options.threads}, must be at least 1")

    def tell(line: str) -> None:
        print(f"{monotonic() - started_s:6.1f} s  {line}", file=sys.stderr, flush=True)

    # Only now: torch takes seconds to import.
    import torch

    from training.evaluate_command import print_heads
    from training.taobao import measured, read

    torch.set_num_threads(options.threads)
    tell("reading and replaying the log")
    log = read(path, options.seed)
    record = measured(log, options.seed, tell)
    record |= {
        "log": str(path),
        "seed": options.seed,
        "events": log.events,
        "users": log.users,
        "seconds": round(monotonic() - started_s, 1),
    }
    print(f"{log.events:,} events of {log.users:,} users, {record['n']:,} asked about")
    print_heads(record)
    print(f"heads to which the layers add, by the validation users: {record['kept'] or 'none'}")
    if options.json:
        print(json.dumps(record))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="clickpath benchmark taobao",
        description="Next action and next category on Taobao's behaviour log, or on any log in the "
        "same form: 80 %% of the users train, the others are asked about.",
    )
    parser.add_argument(
        "--log", metavar="FILE", help="user,item,category,behaviour,second; may be gzipped"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split; default 0")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser
