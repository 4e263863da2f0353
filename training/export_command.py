"""`clickpath export`: the model of a run for serving, as it is or smaller."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window
from serving.card import read_card

if TYPE_CHECKING:
    from serving.repository.versions import Version
    from training.compress import Figures


def export(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    run, out = Path(options.run), Path(options.out)
    if out.resolve() == run.resolve():
        raise UsageError(f"--out is the run itself, {run}")
    read_card(run)  # before libraries that take seconds to import
    command = shlex.join(["clickpath", "export", *argv])
    before, after, sizes = _made(run, out, options, command)
    version = _for_triton(out, options)
    for head, figures in after.items():
        names = [name for name in ("log_loss", "auc", "hr@10", "ndcg@10") if name in figures]
        row = "  ".join(f"{n} {before[head][n]:.4f} -> {figures[n]:.4f}" for n in names)
        print(f"{head:<16}{row}")
    print(f"{out}: {sizes[0]:,} bytes became {sizes[1]:,}")
    if version is not None:
        print(f"{version.directory}: version {version.number} of {options.name}")
    if options.json:
        record = {"out": str(out), "bytes": sizes[1], "before": before, "after": after}
        if version is not None:
            record["version"] = version.number
        print(json.dumps(record))
    return 0


def _for_triton(out: Path, options: argparse.Namespace) -> Version | None:
    """The exported model as a version in a Triton repository, if that was asked for."""
    if options.triton is None:
        return None
    from serving.repository.arguments import add_version_of

    return add_version_of(options, Path(options.triton), out)


def _parser() -> CommandParser:
    from serving.repository.arguments import add_arguments

    parser = CommandParser(
        prog="clickpath export",
        description="Writes the model of a run for serving, smaller if asked to. Refuses when a "
        "head loses more than 2 % on the test part.",
    )
    parser.add_argument("run", metavar="RUN", help="directory that `clickpath train` has left")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model goes")
    parser.add_argument("--int8", action="store_true", help="in 8-bit integers")
    parser.add_argument(
        "--student", type=int, metavar="WIDTH", help="a narrower model, taught by that of the run"
    )
    parser.add_argument("--epochs", type=int, default=14, help="of the student; default 14")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    parser.add_argument(
        "--triton", metavar="DIR", help="add it to a Triton model repository as well"
    )
    add_arguments(parser)
    return parser


def _made(
    run: Path, out: Path, options: argparse.Namespace, command: str
) -> tuple[Figures, Figures, tuple[int, int]]:
    """Figures on the test part before and after, and the sizes of the graphs."""
    # Only now: torch and transformers take seconds to import.
    import torch

    from serving.card import HEADS_FILE, write_card
    from serving.graph import Graph
    from training.checkpoint import load_checkpoint, save_checkpoint
    from training.compress import bytes_of, check_lost, student_of
    from training.dataset import Dataset
    from training.package import quantize_package, with_reference, write_package
    from training.predict import measure, predict, run_graph
    from training.progress import Shown
    from training.run import EXAMPLES_FOLDER
    from training.train import TrainConfig

    torch.set_num_threads(options.threads)
    encoder = Encoder(Window())
    model, card = load_checkpoint(run, encoder), read_card(run)
    dataset = Dataset.open(run / EXAMPLES_FOLDER)
    test_part = dataset.part("test")
    before = measure(test_part, predict(model, test_part))
    if options.student is not None:
        loop = TrainConfig(epochs=options.epochs, disguise=0.3)
        with Shown() as shown:
            model = student_of(model, options.student, dataset, loop, shown.show)
    with TemporaryDirectory(prefix="clickpath-export-") as folder:
        made = Path(folder)
        save_checkpoint(model, encoder, made)
        data = {**card.data, "of": card.digest}
        packed = write_package(model, encoder, made, command, data)
        write_card(with_reference(packed, model, test_part, made), made)
        if options.int8:
            quantize_package(made, dataset.part("valid"))
        every_head = (made / HEADS_FILE).exists()
        graph = Graph(made, encoder, every_head=every_head)
        after = measure(test_part, run_graph(graph, test_part))
        check_lost(before, after)
        try:
            shutil.copytree(made, out, dirs_exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error.strerror}") from error
    return before, after, (bytes_of(run), bytes_of(out))
