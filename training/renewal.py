"""A candidate for the champion's place: trained on the newest days, held against the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Literal

import torch
from pydantic import JsonValue

from clickpath.encoding import Encoder
from serving.card import Card, read_card, write_card
from serving.promotion import Gain, Promotion, write_promotion
from training.build import Recipe, build
from training.calibration import calibrate, write_calibration
from training.checkpoint import load_checkpoint, save_checkpoint
from training.corpus import Corpus
from training.dataset import Dataset
from training.earlier import old_parts
from training.examples import PARTS
from training.gate import Thresholds, check_metric, finite, latency_ms, reasons_against
from training.heads import teachable, vocabulary_of
from training.model import PathModel
from training.package import check_package, with_reference, write_package
from training.paired import gain
from training.predict import measure, predict
from training.refresh import Figures, refreshed
from training.run import EXAMPLES_FOLDER
from training.said import Asked
from training.train import Progress, TrainConfig, train

Method = Literal["lora", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What to do.

    Attributes:
        run: Directory of the champion, as `clickpath train` or an earlier renewal left it.
        corpus: The newest days.
        out: Directory for the candidate; its hold-out is the last part of the corpus.
        method: Little matrices beside the champion's, or a training from nothing in its form.
        loop: How it is trained.
        thresholds: Of the gate.
        threads: CPU threads.
        command: The command line, for the card.
        now_ms: The present, for the record.
        encoder: The worker's.
    """

    run: Path
    corpus: Corpus
    out: Path
    method: Method
    loop: TrainConfig
    thresholds: Thresholds
    threads: int
    command: str
    now_ms: int
    encoder: Encoder


@dataclass(frozen=True, slots=True)
class Renewed:
    """What came of it: the record of the gate, and figures by head for each set of days.

    Attributes:
        promotion: The record, which lies in the directory as well.
        before: Of the champion: on "new" days, and on "old" ones after a LoRA refresh.
        after: Of the candidate.
        seconds: That the training took.
    """

    promotion: Promotion
    before: dict[str, Figures]
    after: dict[str, Figures]
    seconds: float


def execute(renewal: Renewal, say: Callable[[str], None], show: Progress) -> Renewed:
    """Trains a candidate, and writes it with the verdict of the gate, whatever that is.

    Raises:
        UsageError: The corpus cannot be used, a refresh has no old examples, or the champion has no
            such figure as the gate asks for.
        ModelMismatch: There is no champion in the run, or it is of another encoder.
    """
    torch.set_num_threads(renewal.threads)
    encoder, run, out = renewal.encoder, renewal.run, renewal.out
    model, card = load_checkpoint(run, encoder), read_card(run)
    old = old_parts(run / EXAMPLES_FOLDER, renewal.corpus) if renewal.method == "lora" else None
    new = build(renewal.corpus, out / EXAMPLES_FOLDER, Recipe(encoder=encoder), say)
    tests = {"new": new.part("test")}
    if old is not None:
        tests["old"] = old["test"]
    said_before = {name: predict(model, part) for name, part in tests.items()}
    before = {name: measure(part, said_before[name]) for name, part in tests.items()}
    check_metric(renewal.thresholds.metric, before["new"])
    began_s = monotonic()
    if old is not None:
        steps = _epochs_of(card) * -(-len(old["train"]) // renewal.loop.batch)
        recent = new.part("train"), new.part("valid")
        model = refreshed(model, recent, old["train"], steps, renewal.loop, show)
    else:
        model = _from_nothing(model, new, renewal.loop, show)
    seconds = monotonic() - began_s
    say("calibrating and exporting the candidate")
    write_calibration(calibrate(model, new.part("valid")), out)
    said = {name: predict(model, part) for name, part in tests.items()}
    after = {name: measure(part, said[name]) for name, part in tests.items()}
    metric, confidence = renewal.thresholds.metric, renewal.thresholds.confidence
    better = gain(metric, Asked.of(tests["new"]), said_before["new"], said["new"], confidence)
    save_checkpoint(model, encoder, out)
    data = _data(card, new, renewal.method)
    made = write_package(model, encoder, out, renewal.command, data)
    check_package(model, encoder, out, tests["new"])
    heads: dict[str, JsonValue] = {head: dict(of) for head, of in finite(after["new"]).items()}
    history = card.metrics.get("history")
    metrics: dict[str, JsonValue] = {"part": "test", "heads": heads, "history": history}
    made = with_reference(made, model, tests["new"], out)
    made = made.model_copy(update={"metrics": metrics})
    write_card(made, out)
    promotion = _judged(renewal, (card, made), before, after, better, new)
    write_promotion(promotion, out)
    return Renewed(promotion, before, after, seconds)


def _judged(
    renewal: Renewal,
    cards: tuple[Card, Card],
    before: Mapping[str, Figures],
    after: Mapping[str, Figures],
    better: Gain | None,
    new: Dataset,
) -> Promotion:
    part, time = new.part("test"), new.manifest.time
    took_ms = latency_ms(renewal.run, renewal.out, renewal.encoder, part)
    kept = (before["old"], after["old"]) if "old" in before else None
    reasons = reasons_against(
        renewal.thresholds, before["new"], after["new"], better, took_ms, kept
    )
    seen = cards[0].data.get("time")
    return Promotion(
        candidate=cards[1].digest,
        champion=cards[0].digest,
        verdict="refuse" if reasons else "promote",
        reasons=tuple(reasons),
        method=renewal.method,
        thresholds=renewal.thresholds.record(),
        held_out={
            "from_ms": time.test_from_ms,
            "end_ms": time.end_ms,
            "paths": len(part),
            # Of the champion: where its own test part began. Nothing later taught it anything.
            "champion_until_ms": seen.get("test_from_ms") if isinstance(seen, dict) else None,
        },
        figures={"champion": finite(before["new"]), "candidate": finite(after["new"])},
        gain=better,
        latency_ms=took_ms,
        created_ms=renewal.now_ms,
    )


def _epochs_of(card: Card) -> int:
    """How many epochs the full training took."""
    epochs = card.metrics.get("history")
    return len(epochs) if isinstance(epochs, list) and epochs else 1


def _from_nothing(
    champion: PathModel, new: Dataset, loop: TrainConfig, show: Progress
) -> PathModel:
    """A model in the champion's form, with the vocabulary of the new days."""
    train_part, valid_part = new.part("train"), new.part("valid")
    config = replace(champion.config, heads=teachable(train_part, champion.config.heads))
    torch.manual_seed(loop.seed)
    model = PathModel(config, vocabulary_of(train_part, config))
    return train(model, train_part, valid_part, loop, show).model


def _data(card: Card, new: Dataset, method: Method) -> dict[str, JsonValue]:
    """What the candidate was made of: for LoRA what the champion was made of, and more."""
    newest: dict[str, JsonValue] = new.manifest.model_dump(mode="json", exclude={"parts"})
    if method == "full":
        labels: dict[str, JsonValue] = {name: dict(new.part(name).known) for name in PARTS}
        return {**newest, "labels": labels, "refreshed": card.digest}
    return {**card.data, "time": newest["time"], "newest": newest, "refreshed": card.digest}
