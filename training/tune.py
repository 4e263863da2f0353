"""`clickpath tune`: a search for better settings, in a given time, on validation data only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from clickpath.cli import CommandParser
from clickpath.errors import FatalError, UsageError

if TYPE_CHECKING:
    import optuna

    from training.dataset import Part
    from training.form import ModelConfig
    from training.train import TrainConfig

#: Epochs of a trial: enough to tell settings apart, few enough to try many.
_EPOCHS: Final = 4

#: Trials that the default settings and chance decide, before the search learns from them.
_BLIND: Final = 5


def tune(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    for name in ("minutes", "events", "users"):
        if not getattr(options, name) > 0:
            raise UsageError(f"--{name} is {getattr(options, name)}, must be above 0")
    started_s = monotonic()

    def tell(line: str) -> None:
        print(f"{monotonic() - started_s:6.1f} s  {line}", file=sys.stderr, flush=True)

    # Only now: torch takes seconds to import.
    import torch

    from training.build import build
    from training.corpus import Corpus, Simulated, corpus_at

    torch.set_num_threads(1)
    corpus: Corpus = (
        Simulated(options.events, options.users, options.seed)
        if options.corpus is None
        else corpus_at(options.corpus, options.format)
    )
    with TemporaryDirectory(prefix="clickpath-tune-") as folder:
        dataset = build(corpus, Path(folder), say=tell)
        parts = dataset.part("train"), dataset.part("valid")
        record = search(*parts, options.minutes * 60, options.seed, tell)
    print(f"{record['trials']} trials, validation loss {record['loss']:.4f}")
    for name, value in record["best"].items():
        print(f"  {name:<14}{value:.5g}")
    if options.json:
        print(json.dumps(record))
    return 0


def _parser() -> CommandParser:
    from training.corpus import CORPUS_FORMATS

    parser = CommandParser(
        prog="clickpath tune",
        description="Tries settings of model and training loop until the time is over, and names "
        "the best by the loss on the validation part; the test part is not looked at.",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all trials; default 10")
    parser.add_argument("--corpus", metavar="PATH", help="a log, in order of time; else simulated")
    parser.add_argument(
        "--format",
        default="clickpath",
        choices=sorted(CORPUS_FORMATS),
        help="of it; default clickpath",
    )
    parser.add_argument("--events", type=int, default=120_000, help="simulated; default 120000")
    parser.add_argument("--users", type=int, default=2_400, help="simulated; default 2400")
    parser.add_argument("--seed", type=int, default=1, help="of clicks and search; default 1")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout"
    )
    return parser


def search(
    train_part: Part,
    valid_part: Part,
    seconds: float,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Tries settings, by a tree-structured Parzen estimator, the defaults first.

    The trials that fit into the time are all that is known of it: another machine may try more.

    Args:
        train_part: What trials learn from.
        valid_part: What they are compared on.
        seconds: For all trials; the first one is always done, a later one may be cut short.
        seed: Of the search and of each trial.
        tell: Takes a line after each trial.

    Returns:
        `best`, the settings by name, their `loss`, and how many `trials` there were.
    """
    import optuna

    from training.form import ModelConfig
    from training.train import TrainConfig

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_BLIND)
    study = optuna.create_study(sampler=sampler)
    form, loop = ModelConfig(), TrainConfig(seed=seed, epochs=_EPOCHS)
    study.enqueue_trial(
        {
            "rate": loop.rate,
            "weight_decay": loop.weight_decay,
            "disguise": loop.disguise,
            "dropout": form.dropout,
            "batch": loop.batch,
        }
    )
    end_s = monotonic() + seconds

    def objective(trial: optuna.Trial) -> float:
        left_s = max(end_s - monotonic(), 1.0)
        minutes = left_s / 60 if trial.number else None
        loss = _tried(trial, form, replace(loop, minutes=minutes), train_part, valid_part)
        tell(f"trial {trial.number}: validation loss {loss:.4f}")
        return loss if isfinite(loss) else float("inf")

    study.optimize(objective, timeout=seconds)
    return {
        "best": study.best_params,
        "loss": round(study.best_value, 5),
        "trials": len(study.trials),
    }


def _tried(
    trial: optuna.Trial,
    form: ModelConfig,
    loop: TrainConfig,
    train_part: Part,
    valid_part: Part,
) -> float:
    """The best validation loss of one trial; infinite where it fell to pieces."""
    import torch

    from training.heads import teachable, vocabulary_of
    from training.model import PathModel
    from training.train import train

    loop = replace(
        loop,
        rate=trial.suggest_float("rate", 3e-4, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.01, 2.0, log=True),
        disguise=trial.suggest_float("disguise", 0.0, 0.9),
        batch=trial.suggest_categorical("batch", [32, 64, 128]),
    )
    heads = teachable(train_part, form.heads)
    form = replace(form, heads=heads, dropout=trial.suggest_float("dropout", 0.0, 0.4))
    torch.manual_seed(loop.seed)
    model = PathModel(form, vocabulary_of(train_part, form))
    try:
        trained = train(model, train_part, valid_part, loop)
    except FatalError:
        return float("inf")
    return min(epoch.valid_loss for epoch in trained.epochs)
