"""`clickpath refresh`: a candidate from recent days, held against the champion."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import FatalError, UsageError
from clickpath.window import Window
from serving.card import read_card
from serving.promotion import write_promotion
from serving.versions import VersionFolder

if TYPE_CHECKING:
    from training.refresh import Figures
    from training.renewal import Renewal, Renewed


def refresh(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    if Path(options.out).resolve() == Path(options.run).resolve():
        raise UsageError(f"--out is the run itself, {options.run}")
    if options.days is not None and not options.days > 0:
        raise UsageError(f"--days is {options.days:g}, must be above 0")
    read_card(Path(options.run))
    # Only now: torch and transformers take seconds to import.
    from training.progress import Shown
    from training.renewal import execute

    with Shown() as shown:
        renewal = _renewal(options, shlex.join(["clickpath", "refresh", *argv]))
        renewed = execute(renewal, shown.say, shown.show)
    promotion = renewed.promotion
    refused = promotion.verdict == "refuse"
    if refused and options.force:
        promotion = promotion.model_copy(update={"forced": True})
        write_promotion(promotion, renewal.out)
    version = _added(renewal.out, options) if options.force or not refused else None
    _tell(renewed, options.out)
    if options.json:
        record = {
            "out": options.out,
            "version": version,
            "seconds": round(renewed.seconds, 1),
            "promotion": promotion.model_dump(),
            "before": renewed.before,
            "after": renewed.after,
        }
        print(json.dumps(record))
    if refused and not options.force:
        raise FatalError(f"the gate refuses {promotion.candidate}: {'; '.join(promotion.reasons)}")
    return 0


def _added(candidate: Path, options: argparse.Namespace) -> str | None:
    """The candidate as a version of the repositories that were named; None where none was."""
    version = None
    if options.repository is not None:
        key = Path(options.sign) if options.sign else None
        version = VersionFolder(Path(options.repository)).put(candidate, key)
    if options.triton is not None:
        from serving.repository.arguments import add_version_of

        version = add_version_of(options, Path(options.triton), candidate).card.digest
    return version


def _renewal(options: argparse.Namespace, command: str) -> Renewal:
    from training.corpus import Corpus, corpus_at
    from training.gate import Thresholds
    from training.newest import Newest
    from training.renewal import Renewal
    from training.train import TrainConfig

    corpus: Corpus = corpus_at(options.corpus, options.format)
    if options.days is not None:
        corpus = Newest.of(corpus, options.days)
    lora = options.method == "lora"
    plain = TrainConfig()
    return Renewal(
        run=Path(options.run),
        corpus=corpus,
        out=Path(options.out),
        method=options.method,
        loop=TrainConfig(
            epochs=options.epochs or (4 if lora else plain.epochs),
            rate=options.rate or (4e-3 if lora else plain.rate),
            seed=options.seed,
        ),
        thresholds=Thresholds(
            metric=options.metric,
            margin=options.margin,
            confidence=options.confidence,
            head_pct=options.head_pct,
            calibration=options.calibration,
            kept_pct=options.kept_pct,
            latency_pct=options.latency_pct,
        ),
        threads=options.threads,
        command=command,
        now_ms=time.time_ns() // 1_000_000,
        encoder=Encoder(Window()),
    )


def _parser() -> CommandParser:
    from serving.repository.arguments import add_arguments

    parser = CommandParser(
        prog="clickpath refresh",
        description="Trains a candidate on recent days, with LoRA for at most a tenth of the work "
        "of the first training or from nothing, and holds it against the champion on the last part "
        "of these days. Refuses it unless it is better by the margin and worse in no guard; the "
        "record of that lies beside it either way, as promotion.json.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="the champion: directory that `train` or `refresh` has left")
    add("--corpus", required=True, metavar="PATH", help="clicks of recent days, or the archive")
    add("--format", default="clickpath", help="of it; default clickpath")
    add("--days", type=float, metavar="N", help="only the newest N days of it; default all")
    add("--out", required=True, metavar="DIR", help="where the candidate goes")
    add("--method", choices=["lora", "full"], default="lora", help="default lora")
    add("--epochs", type=int, help="at most; default 4, of a full training that of `train`")
    add("--rate", type=float, help="highest one; default 0.004, of a full training that of `train`")
    add("--seed", type=int, default=1, help="of the order; default 1")
    add("--threads", type=int, default=1, help="CPU threads; default 1")
    gate = parser.add_argument_group("gate").add_argument
    gate("--metric", default="next_action.log_loss", help="head.figure; default %(default)s")
    gate("--margin", type=float, default=0.001, help="how much better it must be; default 0.001")
    gate("--confidence", type=float, default=0.95, help="how sure of that; default 0.95")
    gate("--head-pct", type=float, default=1.0, help="how much worse a head may be; default 1 %%")
    gate("--calibration", type=float, default=0.02, help="likewise its ece; default 0.02 more")
    gate("--kept-pct", type=float, default=99.0, help="kept on the days before; default 99 %%")
    gate("--latency-pct", type=float, default=25.0, help="how much slower; default 25 %%")
    add("--repository", metavar="DIR", help="model repository that it goes into if it passes")
    add("--triton", metavar="DIR", help="likewise, one that Triton serves")
    add("--force", action="store_true", help="go on against the verdict, and say so in the record")
    add("--json", action="store_true", help="print one JSON object as the last line of stdout")
    add_arguments(parser)
    return parser


def _tell(renewed: Renewed, out: str) -> None:
    for name, text in (("old", "the days before"), ("new", "recent days")):
        if name in renewed.before:
            print(f"on {text}")
            _print(renewed.before[name], renewed.after[name])
    took_ms, promotion = renewed.promotion.latency_ms, renewed.promotion
    print(f"  a batch         {took_ms['champion']:.2f} -> {took_ms['candidate']:.2f} ms")
    if (gain := promotion.gain) is not None and gain.by is not None:
        low, high = gain.bounds or (float("nan"), float("nan"))
        sure = f"{low:.4f} to {high:.4f} at {100 * gain.confidence:g} %, {gain.users} users"
        print(f"  {gain.metric} better by {gain.by:.4f} ({sure})")
    print(f"{out}: trained in {renewed.seconds:.0f} s; the gate says {promotion.verdict}")
    for reason in promotion.reasons:
        print(f"  {reason}")


def _print(before: Figures, after: Figures) -> None:
    for head, figures in after.items():
        names = [name for name in ("log_loss", "auc", "hr@10", "ece") if name in figures]
        row = "  ".join(f"{n} {before[head][n]:.4f} -> {figures[n]:.4f}" for n in names)
        print(f"  {head:<16}{row}")
