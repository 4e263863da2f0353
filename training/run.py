"""One training run: corpus -> examples -> model -> exported file with its card."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Final

import numpy as np
import torch
from pydantic import JsonValue

from clickpath.encoding import Encoder
from clickpath.errors import FatalError, UsageError
from clickpath.vocabulary import ACTIONS
from serving.card import MODEL_FILE, Card, write_card
from serving.embedded import EmbeddedPredictor
from training import baselines
from training.build import Recipe, build
from training.checkpoint import save_checkpoint
from training.corpus import Corpus
from training.dataset import Ints, Part
from training.examples import PARTS, Sampling
from training.export import to_onnx
from training.metrics import Floats
from training.model import ModelConfig
from training.train import Progress, TrainConfig, Trained, measure, predict, train

#: Largest difference between a probability of the trained model and of the exported file.
EXPORT_TOLERANCE: Final = 1e-4

_PACKAGES: Final = ("numpy", "onnx", "onnxruntime", "torch", "transformers")

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
        model: Size of the model.
        loop: How it is trained.
        threads: CPU threads; other numbers may round differently. A model of this size gains
            little from a second one, and threads that wait for a busy core lose much.
    """

    corpus: Corpus
    out: Path
    command: str
    encoder: Encoder
    sampling: Sampling = field(default_factory=Sampling)
    model: ModelConfig = field(default_factory=ModelConfig)
    loop: TrainConfig = field(default_factory=TrainConfig)
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; the figures are those of the exported file on the test part."""

    card: Card
    figures: dict[str, Figures]
    trained: Trained
    seconds: float


def execute(run: Run, say: Callable[[str], None], progress: Progress) -> Result:
    """Runs it all, and leaves checkpoint, `model.onnx` and `card.json` in the directory.

    Raises:
        UsageError: The corpus cannot be used, or the directory not be written.
        FatalError: The training or the export failed.
    """
    started_s = monotonic()
    torch.set_num_threads(run.threads)
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {run.out}: {error.strerror}") from error
    recipe = Recipe(encoder=run.encoder, sampling=run.sampling)
    dataset = build(run.corpus, run.out / "examples", recipe, say)
    train_part, valid_part, test_part = parts = [dataset.part(name) for name in PARTS]
    say("examples: " + ", ".join(f"{n} {len(p)}" for n, p in zip(PARTS, parts, strict=True)))
    counted = baselines.fit(train_part)
    trained = train(train_part, valid_part, run.model, run.loop, progress)
    say(f"exporting the model of epoch {trained.best}")
    save_checkpoint(trained.model, run.encoder, run.out)
    model = to_onnx(trained.model, run.encoder.window.steps)
    (run.out / MODEL_FILE).write_bytes(model)
    data: dict[str, JsonValue] = {
        **dataset.manifest.model_dump(mode="json", exclude={"parts"}),
        "labels": {name: dict(dataset.part(name).known) for name in PARTS},
        "model": dict(asdict(run.model)),
        "training": dict(asdict(run.loop)),
        "threads": run.threads,
        "packages": {name: version(name) for name in _PACKAGES},
    }
    card = Card(
        name="clickpath path transformer",
        sha256=sha256(model).hexdigest(),
        encoder=run.encoder.fingerprint,
        actions=ACTIONS,
        steps=run.encoder.window.steps,
        data=data,
        command=run.command,
    )
    write_card(card, run.out)
    say("measuring the exported model and the baselines on the test part")
    said = served(run.out, run.encoder, test_part)
    check_export(predict(trained.model, test_part), said)
    figures = {"model": measure(test_part, said)}
    for name, baseline in counted.items():
        figures[name] = measure(test_part, baseline.predict(test_part))
    card = card.model_copy(update={"metrics": _metrics(figures, trained)})
    write_card(card, run.out)
    return Result(card, figures, trained, monotonic() - started_s)


def served(directory: Path, encoder: Encoder, part: Part) -> tuple[Floats, Floats]:
    """What serving says with the model in a directory, after the last step of each path."""

    async def ask() -> tuple[Floats, Floats]:
        predictor = EmbeddedPredictor(directory, encoder)
        try:
            paths = [_padded(path, encoder.window.steps) for path in part.whole().paths]
            scores = await predictor.predict(paths, deadline_s=600.0)
        finally:
            await predictor.close()
        return (
            np.array([one.next_action for one in scores]),
            np.array([one.purchase for one in scores]),
        )

    return asyncio.run(ask())


def _padded(path: Ints, steps: int) -> array[int]:
    padded = np.zeros((len(path), steps), np.int64)
    padded[:, : path.shape[1]] = path
    return array("q", padded.tobytes())


def check_export(trained: tuple[Floats, Floats], exported: tuple[Floats, Floats]) -> None:
    """Checks that the exported model says what the trained one says.

    Raises:
        FatalError: Some probability differs by more than `EXPORT_TOLERANCE`.
    """
    # np.max keeps a NaN; max() may lose it.
    worst = float(np.max([np.abs(a - b).max() for a, b in zip(trained, exported, strict=True)]))
    if not worst <= EXPORT_TOLERANCE:
        raise FatalError(
            f"the exported model differs from the trained one by {worst:.2g}, "
            f"at most {EXPORT_TOLERANCE:g} is allowed"
        )


def _metrics(figures: dict[str, Figures], trained: Trained) -> dict[str, JsonValue]:
    """The figures by head, the model beside the baselines, and the history of the loop."""

    def rounded(figures_of_head: dict[str, float]) -> dict[str, JsonValue]:
        # JSON has no NaN: a figure that the labels do not allow is null.
        return {
            name: round(value, 5) if isfinite(value) else None
            for name, value in figures_of_head.items()
        }

    heads: dict[str, JsonValue] = {}
    for head, of_model in figures["model"].items():
        others: dict[str, JsonValue] = {
            name: rounded(figures[name][head]) for name in baselines.NAMES
        }
        heads[head] = {**rounded(of_model), "baselines": others}
    history: list[JsonValue] = [
        {
            "epoch": epoch.number,
            "train_loss": round(epoch.train_loss, 5),
            "valid_loss": round(epoch.valid_loss, 5),
        }
        for epoch in trained.epochs
    ]
    return {"part": "test", "heads": heads, "best_epoch": trained.best, "history": history}
