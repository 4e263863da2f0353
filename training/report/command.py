"""`clickpath report RUN`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window
from serving.card import read_card


def report(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    started_s = monotonic()
    run = Path(options.run)
    out = Path(options.out or run / "report.html")
    read_card(run)  # before libraries that take seconds to import

    def tell(line: str) -> None:
        print(f"{monotonic() - started_s:6.1f} s  {line}", file=sys.stderr, flush=True)

    text = _written(run, options.no_baselines, tell)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from error
    print(f"{out}: {len(text) // 1024} KB")
    if options.json:
        print(json.dumps({"report": str(out), "bytes": len(text.encode())}))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="clickpath report",
        description="Writes one self-contained HTML page about a run: figures beside baselines, "
        "curves, explained paths and the model card.",
    )
    parser.add_argument("run", metavar="RUN", help="directory that `clickpath train` has left")
    parser.add_argument("--out", metavar="FILE", help="default RUN/report.html")
    parser.add_argument("--no-baselines", action="store_true", help="leave the baselines out")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def _written(run: Path, no_baselines: bool, tell: Callable[[str], None]) -> str:
    # Only now: torch and matplotlib take seconds to import.
    import torch

    from serving.graph import Graph
    from training.calibration import read_calibration
    from training.dataset import Dataset
    from training.evaluation import baselines_said, evaluated
    from training.examples import PARTS
    from training.report.contents import sections
    from training.report.page import page
    from training.run import EXAMPLES_FOLDER
    from training.said import Asked, served

    torch.set_num_threads(1)
    encoder = Encoder(Window())
    card = Graph(run, encoder).card
    graph = Graph(run, encoder, every_head=bool(card.all_heads))
    dataset = Dataset.open(run / EXAMPLES_FOLDER)
    train_part, valid_part, test_part = (dataset.part(name) for name in PARTS)
    tell(f"asking the model about {len(test_part)} paths")
    said, asked = served(graph, test_part), Asked.of(test_part)
    parts = (train_part, valid_part, test_part)
    others = {} if no_baselines else baselines_said(parts, 1, tell)
    tell("drawing users for the intervals")
    record = evaluated(asked, said, others)
    record |= {"data": f"the last 15 % of {run.name}", "users": len({*asked.users.tolist()})}
    tell("drawing the page")
    every = sections(card, read_calibration(run), record, asked, said, test_part, graph)
    words = f"What the model of run {run.name} says about clicks that it has not seen, and how far "
    return page(f"Clickpath model {card.digest}", words + "that may be trusted.", every)
