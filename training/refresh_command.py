"""`clickpath refresh`: the model of a run, brought up to recent days."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window

if TYPE_CHECKING:
    from training.refresh import Figures


def refresh(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    run, out = Path(options.run), Path(options.out)
    if out.resolve() == run.resolve():
        raise UsageError(f"--out is the run itself, {run}")
    # Only now: torch and transformers take seconds to import.
    import torch

    from serving.card import read_card
    from training.build import Recipe, build
    from training.checkpoint import load_checkpoint, save_checkpoint
    from training.corpus import corpus_at
    from training.dataset import Dataset
    from training.package import write_package
    from training.predict import measure, predict
    from training.progress import Shown
    from training.refresh import check_kept, refreshed
    from training.run import EXAMPLES_FOLDER
    from training.train import TrainConfig

    torch.set_num_threads(options.threads)
    encoder = Encoder(Window())
    model, card = load_checkpoint(run, encoder), read_card(run)
    old = Dataset.open(run / EXAMPLES_FOLDER)
    loop = TrainConfig(epochs=options.epochs, rate=options.rate, seed=options.seed)
    epochs = card.metrics.get("history")
    full = len(epochs) if isinstance(epochs, list) else 1
    steps = full * -(-len(old.part("train")) // loop.batch)
    with Shown() as shown:
        corpus = corpus_at(options.corpus, options.format)
        new = build(corpus, out / EXAMPLES_FOLDER, Recipe(encoder=encoder), shown.say)
        tests = {"old": old.part("test"), "new": new.part("test")}
        before = {name: measure(part, predict(model, part)) for name, part in tests.items()}
        began_s = monotonic()
        recent = new.part("train"), new.part("valid")
        model = refreshed(model, recent, old.part("train"), steps, loop, shown.show)
        seconds = monotonic() - began_s
    after = {name: measure(part, predict(model, part)) for name, part in tests.items()}
    check_kept(before["old"], after["old"])
    save_checkpoint(model, encoder, out)
    command = shlex.join(["clickpath", "refresh", *argv])
    write_package(model, encoder, out, command, {**card.data, "refreshed": card.digest})
    for name, text in (("old", "the days before"), ("new", "recent days")):
        print(f"on {text}")
        _print(before[name], after[name])
    print(f"{out}: refreshed in {seconds:.0f} s")
    if options.json:
        record = {"out": str(out), "seconds": round(seconds, 1), "before": before, "after": after}
        print(json.dumps(record))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="clickpath refresh",
        description="Brings the model of a run up to recent days with LoRA, for at most a tenth of "
        "the work of its training. Refuses when a head forgets more than 1 % of the days before.",
    )
    parser.add_argument("run", metavar="RUN", help="directory that `clickpath train` has left")
    parser.add_argument("--corpus", required=True, metavar="PATH", help="clicks of recent days")
    parser.add_argument("--format", default="clickpath", help="of it; default clickpath")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model goes")
    parser.add_argument("--epochs", type=int, default=4, help="at most; default 4")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest one; default 0.004")
    parser.add_argument("--seed", type=int, default=1, help="of the order; default 1")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def _print(before: Figures, after: Figures) -> None:
    for head, figures in after.items():
        names = [name for name in ("log_loss", "auc", "hr@10") if name in figures]
        row = "  ".join(f"{n} {before[head][n]:.4f} -> {figures[n]:.4f}" for n in names)
        print(f"  {head:<16}{row}")
