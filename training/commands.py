"""`clickpath train`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window

if TYPE_CHECKING:
    import argparse

    from training.corpus import Corpus
    from training.run import Result
    from training.titles import Titles


#: The figures that are printed, where a head has them.
_COLUMNS: Final = ("log_loss", "accuracy", "auc", "hr@5", "ndcg@5", "mrr")


def train(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    _check(options)
    corpus = _corpus(options)
    # Only now: torch and transformers take seconds to import.
    from training.progress import Shown
    from training.run import Run, execute
    from training.train import TrainConfig

    loop = TrainConfig(seed=options.seed, epochs=options.epochs, minutes=options.minutes)
    run = Run(
        corpus=corpus,
        out=Path(options.out),
        command=shlex.join(["clickpath", "train", *argv]),
        encoder=Encoder(Window()),
        loop=loop,
        threads=options.threads,
        resume=options.resume,
        start=None if options.start is None else Path(options.start),
        pretraining=options.pretrain,
        masked=options.masked,
        titles=None if options.titles is None else _titles(options.titles),
    )
    with Shown() as shown:
        result = execute(run, shown.say, shown.show)
    if result is None:
        return 0
    _print_result(result, options.out)
    if options.json:
        print(json.dumps(_record(result, options.out)))
    return 0


def _corpus(options: argparse.Namespace) -> Corpus:
    from training.corpus import Simulated, corpus_at

    if options.corpus is None:
        return Simulated(options.events, options.users, options.seed)
    return corpus_at(options.corpus, options.format, options.clean)


def _titles(path: str) -> Titles:
    # Only where there are any: the model of their vectors comes with an extra of its own.
    from training.titles import read_titles

    return read_titles(Path(path))


def _parser() -> CommandParser:
    from training.corpus import CORPUS_FORMATS

    parser = CommandParser(
        prog="clickpath train",
        description="Trains a model on simulated or logged clicks, measures it beside baselines on "
        "later ones, and exports it for serving.",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--corpus",
        metavar="PATH",
        help="a path or address of clicks, in order of time; else simulated",
    )
    parser.add_argument(
        "--format",
        default="clickpath",
        choices=sorted(CORPUS_FORMATS),
        help="of it; default clickpath",
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="drop copies, impossible times and bots, clip outliers; public logs always are",
    )
    parser.add_argument("--events", type=int, default=600_000, help="simulated; default 600000")
    parser.add_argument("--users", type=int, default=12_000, help="simulated; default 12000")
    parser.add_argument("--seed", type=int, default=1, help="of clicks and weights; default 1")
    parser.add_argument("--epochs", type=int, default=14, help="at most; default 14")
    parser.add_argument(
        "--minutes", type=float, help="stop before an epoch that would take the loop beyond this"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; default 1, fastest on a busy machine"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run that was stopped in --out"
    )
    parser.add_argument(
        "--from", dest="start", metavar="RUN", help="begin with the weights of another run"
    )
    parser.add_argument(
        "--pretrain", type=int, default=0, metavar="EPOCHS", help="over paths alone, before"
    )
    parser.add_argument(
        "--masked", type=float, default=0.0, metavar="SHARE", help="of their steps to hide"
    )
    parser.add_argument(
        "--titles", metavar="FILE", help="of the items: id, tab and title on each line"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    for name in ("events", "users", "epochs", "threads"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} is {getattr(options, name)}, must be at least 1")
    if options.titles is not None and options.start is not None:
        raise UsageError("--titles goes with a new model: one that --from names has its own")
    if options.pretrain < 0:
        raise UsageError(f"--pretrain is {options.pretrain}, must not be below 0")
    if not 0 <= options.masked < 1:
        raise UsageError(f"--masked is {options.masked}, must be from 0 to below 1")
    if options.minutes is not None and not options.minutes > 0:
        raise UsageError(f"--minutes is {options.minutes}, must be above 0")


def _print_result(result: Result, out: str) -> None:
    for head in result.figures["model"]:
        names = [name for name in _COLUMNS if name in result.figures["model"][head]]
        print(f"{head:<16}" + "".join(f"{name:>12}" for name in names))
        for who, figures in result.figures.items():
            if head in figures:
                row = "".join(f"{figures[head][name]:>12.4f}" for name in names)
                print(f"  {who:<14}{row}")
    print(f"{out}: model {result.card.digest} in {result.seconds:.0f} s")


def _record(result: Result, out: str) -> dict[str, object]:
    return {
        "out": out,
        "model": result.card.digest,
        "encoder": result.card.encoder,
        "heads": result.card.metrics["heads"],
        "best_epoch": result.trained.best,
        "loop_seconds": round(result.trained.epochs[-1].seconds, 1),
        "seconds": round(result.seconds, 1),
    }
