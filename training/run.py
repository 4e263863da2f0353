"""One training run: corpus -> examples -> model -> exported files with their card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import torch
from accelerate import PartialState
from pydantic import JsonValue

from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from serving.card import Card, write_card
from training import baselines
from training.board import Board
from training.build import Recipe, build
from training.calibration import calibrate, write_calibration
from training.checkpoint import load_checkpoint, save_checkpoint
from training.corpus import Corpus
from training.dataset import Dataset, Part
from training.earlier import reopen
from training.examples import PARTS, Sampling
from training.form import ModelConfig
from training.heads import teachable, vocabulary_of
from training.model import PathModel
from training.package import check_package, with_reference, write_package
from training.predict import measure, predict
from training.stages import NextEvents
from training.standing import STANDING_FILE, Epoch
from training.train import Progress, Tick, TrainConfig, Trained, train

if TYPE_CHECKING:
    from training.titles import Titles

_PACKAGES: Final = ("numpy", "onnx", "onnxruntime", "torch", "transformers")

EXAMPLES_FOLDER: Final = "examples"
LOGS_FOLDER: Final = "logs"
PRETRAINING_FOLDER: Final = "pretraining"

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What to do.

    Attributes:
        corpus: The clicks.
        out: Directory for the results; made if it is missing.
        command: The command line, for the card.
        encoder: The worker's encoder.
        sampling: Which steps become examples.
        model: Form of the model; of its heads those are made that the corpus has labels for.
        loop: How it is trained.
        threads: CPU threads; other numbers may round differently. A model of this size gains
            little from a second one, and threads that wait for a busy core lose much.
        resume: Whether to go on with a run that was stopped in the same directory.
        start: Directory of a run whose weights training begins with, and whose vocabulary and
            form it keeps; None to begin from nothing.
        pretraining: Epochs over the paths alone before; see `training.stages`.
        masked: Share of the steps that are hidden meanwhile; 0 to foretell the next event.
        titles: Of the items; None to do without.
    """

    corpus: Corpus
    out: Path
    command: str
    encoder: Encoder
    sampling: Sampling = field(default_factory=Sampling)
    model: ModelConfig = field(default_factory=ModelConfig)
    loop: TrainConfig = field(default_factory=TrainConfig)
    threads: int = 1
    resume: bool = False
    start: Path | None = None
    pretraining: int = 0
    masked: float = 0.0
    titles: Titles | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; the figures are those on the test part."""

    card: Card
    figures: dict[str, Figures]
    trained: Trained
    seconds: float


def execute(run: Run, say: Callable[[str], None], progress: Progress) -> Result | None:
    """Runs it all, and leaves checkpoint, graphs and `card.json` in the directory.

    Returns:
        The result; None in all processes of `torchrun` but the first.

    Raises:
        UsageError: The corpus cannot be used, or the directory not be written.
        FatalError: The training or the export failed.
    """
    started_s = monotonic()
    torch.set_num_threads(run.threads)
    processes = PartialState(cpu=not torch.cuda.is_available())
    first = processes.is_main_process
    with processes.main_process_first():
        dataset = _examples(run, say) if first else Dataset.open(run.out / EXAMPLES_FOLDER)
    train_part, valid_part, test_part = (dataset.part(name) for name in PARTS)
    model = first_model(run, train_part)
    titles = None if run.titles is None else run.titles.digest
    plan = (
        f"{dataset.manifest.model_dump_json()} {model.config} {run.start} "
        f"{run.pretraining} {run.masked} {titles}"
    )
    shown: Progress = progress if first else (lambda _: None)
    if run.pretraining:
        model = _pretrained(model, run, train_part, valid_part, shown, plan)
    with Board(run.out / LOGS_FOLDER, first) as board:

        def tell(of: Tick | Epoch) -> None:
            board.write(of)
            shown(of)

        trained = train(model, train_part, valid_part, run.loop, tell, folder=run.out, plan=plan)
    if not first:
        return None
    say(f"calibrating and exporting the model of epoch {trained.best}")
    write_calibration(calibrate(trained.model, valid_part), run.out)
    save_checkpoint(trained.model, run.encoder, run.out)
    data: dict[str, JsonValue] = {
        **dataset.manifest.model_dump(mode="json", exclude={"parts"}),
        "labels": {name: dict(dataset.part(name).known) for name in PARTS},
        "model": {**asdict(trained.model.config), "heads": list(trained.model.config.heads)},
        "training": dict(asdict(run.loop)),
        "titles": titles,
        "threads": run.threads,
        "packages": {name: version(name) for name in _PACKAGES},
    }
    card = write_package(trained.model, run.encoder, run.out, run.command, data)
    say("measuring it and the baselines on the test part")
    check_package(trained.model, run.encoder, run.out, test_part)
    figures = {"model": measure(test_part, predict(trained.model, test_part))}
    for name, baseline in baselines.fit(train_part).items():
        figures[name] = measure(test_part, baseline.predict(test_part))
    card = with_reference(card, trained.model, test_part, run.out)
    card = card.model_copy(update={"metrics": _metrics(figures, trained)})
    write_card(card, run.out)
    return Result(card, figures, trained, monotonic() - started_s)


def _examples(run: Run, say: Callable[[str], None]) -> Dataset:
    """Makes the examples, or opens those of a run that goes on."""
    try:
        run.out.mkdir(parents=True, exist_ok=True)
        if not run.resume:
            (run.out / STANDING_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {run.out}: {error.strerror}") from error
    if run.resume:
        return reopen(run.corpus, run.out / EXAMPLES_FOLDER)
    recipe = Recipe(encoder=run.encoder, sampling=run.sampling)
    dataset = build(run.corpus, run.out / EXAMPLES_FOLDER, recipe, say)
    say("examples: " + ", ".join(f"{name} {len(dataset.part(name))}" for name in PARTS))
    return dataset


def _pretrained(
    model: PathModel, run: Run, train_part: Part, valid_part: Part, shown: Progress, plan: str
) -> PathModel:
    """The model after some epochs over the paths alone, with a standing of its own."""
    folder = run.out / PRETRAINING_FOLDER
    folder.mkdir(exist_ok=True)
    if not run.resume:
        (folder / STANDING_FILE).unlink(missing_ok=True)
    paths, held_out = NextEvents(train_part, run.masked), NextEvents(valid_part, run.masked)
    loop = replace(run.loop, epochs=run.pretraining)
    return train(model, paths, held_out, loop, shown, folder=folder, plan=plan).model


def first_model(run: Run, part: Part) -> PathModel:
    """The model as training begins with it."""
    if run.start is not None:
        return load_checkpoint(run.start, run.encoder)
    config = replace(run.model, heads=teachable(part, run.model.heads))
    if not config.heads:
        raise UsageError("the corpus has no labels for any head: no step of it has a next one")
    if config.reach > run.encoder.window.steps:
        raise UsageError(
            f"the model looks {config.reach} steps back, the window keeps "
            f"{run.encoder.window.steps}: take fewer layers or a shorter attention"
        )
    vocabulary = vocabulary_of(part, config)
    torch.manual_seed(run.loop.seed)
    if run.titles is None:
        return PathModel(config, vocabulary)
    # Only now: the model of its vectors comes with an extra of its own.
    from training.titles import titled

    return titled(config, vocabulary, run.titles)


def _metrics(figures: dict[str, Figures], trained: Trained) -> dict[str, JsonValue]:
    """The figures by head, the model beside the baselines, and the history of the loop."""
    heads: dict[str, JsonValue] = {}
    for head, of_model in figures["model"].items():
        others: dict[str, JsonValue] = {
            name: _rounded(of[head])
            for name, of in figures.items()
            if name != "model" and head in of
        }
        heads[head] = {**_rounded(of_model), "baselines": others}
    history: list[JsonValue] = [
        {
            "epoch": epoch.number,
            "train_loss": round(epoch.train_loss, 5),
            "valid_loss": round(epoch.valid_loss, 5),
            "heads": dict(_rounded(epoch.heads)),
        }
        for epoch in trained.epochs
    ]
    return {"part": "test", "heads": heads, "best_epoch": trained.best, "history": history}


def _rounded(figures: dict[str, float]) -> dict[str, JsonValue]:
    # JSON has no NaN: a figure that the labels do not allow is null.
    return {name: round(value, 5) if isfinite(value) else None for name, value in figures.items()}
