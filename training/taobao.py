"""Taobao's behaviour log: next action and next category, by the protocol of the benchmark.

Users are drawn: the ids in rising order are permuted with a seed, the first 80 % train and the
rest test. Every click that has a next one is asked about, from what its user did before. All
choices are made on the last tenth of the training users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.window import Window
from training.baselines import fit_all
from training.calibration import calibrate
from training.corpus import LogFile
from training.counted import CountedModel, count, fit_wide
from training.dataset import Batch, Ints, LabelArray, Part
from training.evaluation import Record, evaluated
from training.examples import Cuts, Replay, Sampling, entry_of, user_hash
from training.form import ModelConfig
from training.heads import vocabulary_of
from training.model import PathModel
from training.predict import predict
from training.said import Asked, Said, answers_of
from training.shards import Collected, joined, shard_of
from training.train import TrainConfig, train

HEADS: Final = ("next_action", "next_category")

#: What a head is chosen by on the validation users, and whether less of it is better.
_CHOICE: Final = {"next_action": ("log_loss", True), "next_category": ("hr@10", False)}

_TRAIN_SHARE: Final = 0.8
_VALID_SHARE: Final = 0.1

#: Items are not looked at: nearly each is clicked once in such a slice.
_FORM: Final = ModelConfig(heads=HEADS, items=1, shared_items=1, dropout=0.1)
_ALONE: Final = TrainConfig(epochs=8, rate=1e-3, batch=32, disguise=0.5, weight_decay=1.0)
_BESIDE: Final = TrainConfig(epochs=4, rate=5e-4, disguise=0.0, weight_decay=1.0)


@dataclass(frozen=True, slots=True)
class Log:
    """The paths of a log by their users' lot, each click in one of them, and what was read.

    Attributes:
        train: Of the training users but the validation share.
        valid: Of the validation share.
        test: Of the test users.
        events: Clicks that were read.
        users: All of them.
    """

    train: Batch
    valid: Batch
    test: Batch
    events: int
    users: int


def read(path: Path, seed: int) -> Log:
    """Replays a log and draws its users.

    Raises:
        UsageError: It has too few users, or cannot be read.
    """
    refused = Counter[str]()
    entries, ids = [], set()
    for place, click in enumerate(LogFile(path, "taobao").clicks(refused)):
        entries.append(entry_of(click, place))
        ids.add(click.user_id)
    if len(ids) < 100:
        raise UsageError(f"{path} has clicks of {len(ids)} users, at least 100 are needed")
    # By number where they are numbers: the protocol's order.
    ordered = sorted(ids, key=lambda each: (len(each), each) if each.isdecimal() else (99, each))
    drawn = [ordered[place] for place in np.random.default_rng(seed).permutation(len(ordered))]
    training_users = drawn[: int(_TRAIN_SHARE * len(drawn))]
    held_out = training_users[int((1 - _VALID_SHARE) * len(training_users)) :]
    end_ms = max(entry.step.ts_ms for entry in entries) + 1
    entries.sort(key=lambda entry: (entry.user, entry.place))  # user by user, as they arrived
    encoder = Encoder(Window())
    cuts = Cuts(end_ms, end_ms, end_ms)  # users are the parts, not times
    collected = Collected()
    for example in Replay(encoder, cuts, Sampling(stride=encoder.window.steps)).run(entries):
        collected.add(example)
    whole = collected.shard()
    in_training = np.isin(whole.users, [user_hash(each) for each in training_users])
    in_valid = np.isin(whole.users, [user_hash(each) for each in held_out])
    rows = [in_training & ~in_valid, in_valid, ~in_training]
    train_paths, valid_paths, test_paths = (whole.batch(np.flatnonzero(each)) for each in rows)
    return Log(train_paths, valid_paths, test_paths, len(entries), len(ids))


def each_step(batch: Batch) -> Part:
    """Every step with a next one as a path of its own, which ends with it."""
    row, step = np.nonzero(batch.labels["next_action"] != 0)
    place = np.arange(batch.paths.shape[2])
    seen = place <= step[:, None]  # (n, T)
    last = place == step[:, None]
    labels: dict[str, LabelArray] = {
        name: np.where(last, of[row], 0).astype(np.int64)
        for name, of in batch.labels.items()
        if name in HEADS
    }
    return Part.of(batch.paths[row] * seen[:, None], labels, batch.users[row], batch.ts_ms[row])


def measured(log: Log, seed: int, tell: Callable[[str], None]) -> Record:
    """Trains everything and measures it on the test users.

    Returns:
        As `clickpath evaluate`, the model with counts inside being the model, and the path model
        alone standing among the baselines; `kept` names the heads to which the layers add.
    """
    train_part, valid_part = part_of(log.train), each_step(log.valid)
    test_part = each_step(log.test)
    tell("training the path model alone")
    alone = path_model(train_part, valid_part, seed)
    tell("counting, then training the path model beside the counts")
    model, kept = counted_model(log, train_part, valid_part, seed)
    tell("fitting the baselines")
    said = {"transformer": predict(alone, test_part)}
    for name, baseline in fit_all(train_part, valid_part, seed, tell).items():
        said[name] = baseline.predict(test_part)
    tell("measuring")
    asked = Asked.of(test_part)
    others = {name: _of_heads(of) for name, of in said.items()}
    record = evaluated(asked, _of_heads(predict(model, test_part)), others)
    return {"heads": record["heads"], "kept": list(kept), "n": len(test_part)}


def part_of(batch: Batch) -> Part:
    """The paths with a label, in memory."""
    rows = (batch.labels["next_action"] != 0).any(axis=1)
    return Part.in_memory(shard_of(_some(batch, np.flatnonzero(rows))))


def _some(batch: Batch, rows: Ints) -> Batch:
    return Batch(
        batch.paths[rows],
        {name: of[rows] for name, of in batch.labels.items()},
        batch.lengths[rows],
        batch.users[rows],
        batch.ts_ms[rows],
    )


def _of_heads(said: Said) -> Said:
    return {name: of for name, of in said.items() if name.removesuffix("_token") in HEADS}


def path_model(train_part: Part, valid_part: Part, seed: int) -> PathModel:
    """The path model as it is, trained by the usual loop and calibrated."""
    torch.manual_seed(seed)
    model = PathModel(_FORM, vocabulary_of(train_part, _FORM))
    train(model, train_part, valid_part, replace(_ALONE, seed=seed))
    calibrate(model, valid_part)
    return model


def counted_model(
    log: Log, train_part: Part, valid_part: Part, seed: int
) -> tuple[CountedModel, tuple[str, ...]]:
    """The path model with counts inside, and the heads to which its layers add.

    The layers are kept for a head where they help on the validation users; the counts are then
    made again with these users, whom no further choice depends on.
    """
    every = _joined(log.train, log.valid)
    torch.manual_seed(seed)
    model = CountedModel(_FORM, vocabulary_of(Part.in_memory(shard_of(every)), _FORM))
    count(model, log.train)
    fit_wide(model, log.train)
    asked = Asked.of(valid_part)
    before = _choice(asked, predict(model, valid_part))
    train(model, train_part, valid_part, replace(_BESIDE, seed=seed))
    after = _choice(asked, predict(model, valid_part))
    kept = tuple(
        head
        for head, (_, less) in _CHOICE.items()
        if (after[head] < before[head] if less else after[head] > before[head])
    )
    model.silence(head for head in HEADS if head not in kept)
    count(model, every)
    if "next_action" not in kept:
        fit_wide(model, every)
    return model.eval(), kept


def _choice(asked: Asked, said: Said) -> Mapping[str, float]:
    return {
        head: answers_of(head, asked, said, asked.known(head)).figures()[figure]
        for head, (figure, _) in _CHOICE.items()
    }


def _joined(*batches: Batch) -> Batch:
    return joined([shard_of(batch) for batch in batches]).batch(slice(None))
