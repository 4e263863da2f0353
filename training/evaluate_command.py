"""`clickpath evaluate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window
from serving.card import read_card

if TYPE_CHECKING:
    import argparse

    from training.dataset import Dataset
    from training.evaluation import Record

#: The hold-out of the shipped model: simulated days whose seed no training run has had.
HOLD_OUT: Final = {"events": 120_000, "users": 2_400, "seed": 20_250}

#: What a person sees of each kind of head.
_COLUMNS: Final = {
    "action": ("log_loss", "auc", "accuracy", "macro_f1", "hr@5", "mrr", "ece"),
    "binary": ("log_loss", "auc", "pr_auc", "macro_f1", "ece"),
    "token": ("hr@1", "hr@5", "hr@10", "ndcg@5", "mrr", "ece"),
}


def evaluate(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    if options.draws < 1:
        raise UsageError(f"--draws is {options.draws}, must be at least 1")
    if options.run is not None:
        read_card(Path(options.run))  # before libraries that take seconds to import
    started_s = monotonic()

    def tell(line: str) -> None:
        print(f"{monotonic() - started_s:6.1f} s  {line}", file=sys.stderr, flush=True)

    record = _evaluated(options, tell)
    record["seconds"] = round(monotonic() - started_s, 1)
    print_heads(record)
    if options.json:
        print(json.dumps(record))
    return 0


def _parser() -> CommandParser:
    from training.corpus import CORPUS_FORMATS

    parser = CommandParser(
        prog="clickpath evaluate",
        description="Measures a model on later clicks than it was trained on, with confidence "
        "intervals by bootstrap over users, beside baselines that were fitted on the earlier ones.",
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="directory of a model; default the one that ships"
    )
    parser.add_argument(
        "--corpus",
        metavar="PATH",
        help="a log, in order of time, of which the last 15 %% are the test; by default the test "
        "part of RUN, and for the shipped model a simulated one",
    )
    parser.add_argument(
        "--format",
        default="clickpath",
        choices=sorted(CORPUS_FORMATS),
        help="of it; default clickpath",
    )
    parser.add_argument(
        "--draws", type=int, default=200, help="of users behind an interval; default 200"
    )
    parser.add_argument("--no-baselines", action="store_true", help="leave the baselines out")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def _evaluated(options: argparse.Namespace, tell: Callable[[str], None]) -> Record:
    # Only now: torch takes seconds to import.
    import torch

    from serving.embedded import shipped_model
    from serving.graph import Graph
    from training.evaluation import baselines_said, evaluated
    from training.examples import PARTS
    from training.said import Asked, served

    torch.set_num_threads(1)
    encoder = Encoder(Window())
    directory = shipped_model() if options.run is None else Path(options.run)
    card = Graph(directory, encoder).card
    graph = Graph(directory, encoder, every_head=bool(card.all_heads))
    with _dataset(options, encoder, tell) as dataset:
        train_part, valid_part, test_part = (dataset.part(name) for name in PARTS)
        tell(f"asking the model about {len(test_part)} paths")
        said = served(graph, test_part)
        others = {}
        if not options.no_baselines:
            others = baselines_said((train_part, valid_part, test_part), 1, tell)
        tell("drawing users for the intervals")
        record = evaluated(Asked.of(test_part), said, others, options.draws)
        time = dataset.manifest.time
    return {
        "model": card.digest,
        "encoder": encoder.fingerprint,
        "data": options.corpus or options.run or {"source": "simulated shop", **HOLD_OUT},
        "test_from_ms": time.test_from_ms,
        "test_until_ms": time.end_ms,
        **record,
    }


@contextmanager
def _dataset(
    options: argparse.Namespace, encoder: Encoder, tell: Callable[[str], None]
) -> Iterator[Dataset]:
    """The examples that a model is measured on."""
    from training.build import Recipe, build
    from training.corpus import Simulated, corpus_at
    from training.dataset import Dataset
    from training.run import EXAMPLES_FOLDER

    if options.corpus is None and options.run is not None:
        folder = Path(options.run) / EXAMPLES_FOLDER
        if not folder.is_dir():
            raise UsageError(f"{options.run} has no {EXAMPLES_FOLDER}: give a --corpus")
        yield Dataset.open(folder)
        return
    corpus = (
        Simulated(HOLD_OUT["events"], HOLD_OUT["users"], HOLD_OUT["seed"])
        if options.corpus is None
        else corpus_at(options.corpus, options.format)
    )
    with TemporaryDirectory(prefix="clickpath-evaluate-") as temporary:
        yield build(corpus, Path(temporary), Recipe(encoder=encoder), tell)


def print_heads(record: Any) -> None:
    """Prints a table for each head, the model on top, its intervals below it."""
    from training.labels import HEAD

    for name, of_head in record["heads"].items():
        columns = _COLUMNS[HEAD[name].kind]
        print(f"{name} ({of_head['n']} answers)")
        print(" " * 14 + "".join(f"{column:>16}" for column in columns))
        rows = {"model": of_head, **of_head["baselines"]}
        for who, figures in rows.items():
            print(f"  {who:<12}" + "".join(f"{_cell(figures[c]):>16}" for c in columns))
            if who == "model":
                ends = (of_head["ci"].get(c, [None, None]) for c in columns)
                cells = (f"{_cell(low)}-{_cell(high)}" for low, high in ends)
                print(" " * 14 + "".join(f"{cell:>16}" for cell in cells))
    areas = record.get("purchase_auc_by_click", {}).items()
    if areas:
        print("purchase AUC by click: " + ", ".join(f"{k}: {_cell(area)}" for k, area in areas))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
