"""The training loop: seeded, visible, with its choice of a checkpoint made on validation data only.

On a CPU the same data, configuration and seed give the same weights, bit for bit, as long as the
numbers of threads and processes and the version of torch are the same. Every step draws from a
seed of its own number, so that a loop which was stopped goes on to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from clickpath.encoding import FEATURE_NAMES
from clickpath.errors import FatalError, UsageError
from training.dataset import Batch
from training.form import KIND
from training.model import PathModel
from training.objective import Objective, ObjectiveConfig
from training.standing import Epoch, Standing, load_standing, save_standing

_MASK_62: Final = (1 << 62) - 1
_VALID_BATCH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        seed: Of the weights, the order of the examples, dropout and disguise.
        epochs: Most passes over the training part.
        minutes: Most time for the loop; a run that ends by it cannot be repeated to the bit.
        batch: Examples per step, in each process.
        rate: Highest learning rate.
        warm_up: Share of all steps over which the rate rises; then it falls along a cosine.
        clip: Largest norm of a gradient.
        weight_decay: Of AdamW.
        patience: Epochs without a better validation loss before the loop stops.
        disguise: Share of the paths whose items and categories get other hashes, consistently, so
            that the model also learns what holds for products it has never seen.
        save_steps: After so many steps the standing is saved, besides the end of each epoch.
        objective: The losses.
    """

    seed: int = 1
    epochs: int = 14
    minutes: float | None = None
    batch: int = 64
    rate: float = 2e-3
    warm_up: float = 0.05
    clip: float = 1.0
    weight_decay: float = 0.2
    patience: int = 2
    disguise: float = 0.7
    save_steps: int = 500
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


class Tick(NamedTuple):
    """A step that was done.

    Attributes:
        step: Its number, from 1.
        steps: How many there are at most.
        loss: Weighted sum of the losses.
        rate: Learning rate.
        events: Real steps of the paths in it.
    """

    step: int
    steps: int
    loss: float
    rate: float
    events: int


@dataclass(frozen=True, slots=True)
class Trained:
    """The best model by validation loss, and the history of the loop."""

    model: PathModel
    epochs: tuple[Epoch, ...]
    best: int


Progress = Callable[[Tick | Epoch], None]


class Examples(Protocol):
    """What a loop learns from or is measured on: a part, or one that is made of others."""

    def __len__(self) -> int: ...

    def batches(self, size: int, seed: int | Sequence[int] | None = None) -> Iterator[Batch]:
        """See `Part.batches`."""
        ...


def train(
    model: PathModel,
    train_part: Examples,
    valid_part: Examples,
    config: TrainConfig,
    progress: Progress = lambda _: None,
    *,
    teacher: PathModel | None = None,
    folder: Path | None = None,
    plan: str = "",
) -> Trained:
    """Trains a model, or goes on where an earlier call with the same folder was stopped.

    Under `torchrun` each process takes its share of the batches, and all end with equal weights.

    Args:
        model: Those of its parameters that require gradients are trained.
        train_part: What it learns from.
        valid_part: What the best epoch is chosen on.
        config: How.
        progress: Called after each step and each epoch.
        teacher: Whose answers it learns as well; see `Objective`.
        folder: Where the standing is kept; None to keep none.
        plan: What the model and the parts are, so that another run does not go on from here.

    Raises:
        FatalError: The loss is not a finite number any more, or memory does not suffice.
        UsageError: There is too little to train on, or the standing is of another run.
    """
    accelerator = accelerator_of()
    objective = Objective(model, config.objective, teacher)
    adam = torch.optim.AdamW(
        decayed(model, config.weight_decay), lr=config.rate, betas=(0.9, 0.98), fused=True
    )
    parallel, optimizer = accelerator.prepare(objective, adam)
    per_epoch = -(-len(train_part) // config.batch) // accelerator.num_processes
    if not per_epoch:
        raise UsageError(f"{len(train_part)} examples are too few for so many processes")
    total = per_epoch * config.epochs
    plan = f"{plan} {config}"
    at = load_standing(folder, model, adam, plan) if folder else Standing()
    began_s = monotonic() - at.seconds
    while len(at.epochs) < config.epochs and len(at.epochs) - at.best < config.patience:
        number = len(at.epochs) + 1
        parallel.train()
        for batch in own_batches(train_part, config, number, at.step % per_epoch, accelerator):
            rng = np.random.default_rng((config.seed, at.step, accelerator.process_index))
            torch.manual_seed(int(rng.integers(_MASK_62)))
            paths, labels = tensors(disguised(batch, config.disguise, rng), accelerator)
            for group in adam.param_groups:
                group["lr"] = config.rate * rate_at(at.step / total, config.warm_up)
            with out_of_memory_told(config, folder):
                loss = objective.total(parallel(paths, labels), len(batch))
                optimizer.zero_grad()
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(parallel.parameters(), config.clip)
            check_finite(loss.item(), float(norm), at.step, config, folder)
            optimizer.step()
            at.step += 1
            at.loss += loss.item()
            rate, events = adam.param_groups[0]["lr"], int(batch.lengths.sum())
            progress(Tick(at.step, total, loss.item(), rate, events))
            if folder and at.step % config.save_steps == 0 and accelerator.is_main_process:
                at.seconds = monotonic() - began_s
                save_standing(folder, at, model, adam, plan)
        heads, valid_loss = validation(objective, valid_part, config, accelerator)
        at.seconds = monotonic() - began_s
        if valid_loss < at.best_loss or not at.weights:
            at.weights = {name: of.detach().clone() for name, of in model.state_dict().items()}
        at.epochs.append(Epoch(number, at.loss / per_epoch, valid_loss, heads, at.seconds))
        at.loss = 0.0
        progress(at.epochs[-1])
        if folder and accelerator.is_main_process:
            save_standing(folder, at, model, adam, plan)
        if no_time_left(at, config):
            break
    model.load_state_dict(at.weights)
    return Trained(model.eval(), tuple(at.epochs), at.best)


def accelerator_of() -> Accelerator:
    """Where the loop runs: a GPU if there is one, with bf16 if it knows it; under torchrun all."""
    gpu = torch.cuda.is_available()
    half = gpu and torch.cuda.is_bf16_supported()
    return Accelerator(cpu=not gpu, mixed_precision="bf16" if half else "no")


def own_batches(
    part: Examples, config: TrainConfig, epoch: int, done: int, accelerator: Accelerator
) -> Iterator[Batch]:
    """The batches of this process in an epoch, without the first ones that are done.

    All processes get equally many: a rest that is too small for all is left out.
    """
    processes = accelerator.num_processes
    each = -(-len(part) // config.batch) // processes
    for number, batch in enumerate(part.batches(config.batch, (config.seed, epoch))):
        turn, process = divmod(number, processes)
        if done <= turn < each and process == accelerator.process_index:
            yield batch


def tensors(batch: Batch, accelerator: Accelerator) -> tuple[Tensor, dict[str, Tensor]]:
    """Paths and labels, where the model is."""
    device = accelerator.device
    labels = {name: torch.from_numpy(of).to(device) for name, of in batch.labels.items()}
    return torch.from_numpy(batch.paths).to(device), labels


def rate_at(done: float, warm_up: float) -> float:
    """The share of the highest learning rate after a share of the steps: warm-up, then cosine."""
    if done < warm_up:
        return (done + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warm_up) / (1 - warm_up))))


def decayed(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """What is trained, in two groups: matrices decay; norms and biases do not."""
    learning = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]


def disguised(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """The examples, a share of them with other hashes; what was equal stays equal.

    Their next item and category are then unknown, as they are for a product that is new.

    Args:
        batch: The examples.
        share: Of the paths, from 0 to 1.
        rng: Says which ones.
    """
    salts = rng.integers(1, _MASK_62, size=(len(batch), 2))
    plain = rng.random(len(batch)) >= share
    paths = batch.paths.copy()
    labels = dict(batch.labels)
    for column, feature in enumerate(("item", "category")):
        hashes = batch.paths[:, FEATURE_NAMES.index(feature)]
        other = np.where(hashes != 0, (hashes ^ salts[:, column, None]) | 1, 0)
        paths[:, FEATURE_NAMES.index(feature)] = np.where(plain[:, None], hashes, other)
    for name in labels:
        if KIND[name] == "token":
            labels[name] = np.where(plain[:, None], labels[name], 0)
    return replace(batch, paths=paths, labels=labels)


def validation(
    objective: Objective, part: Examples, config: TrainConfig, accelerator: Accelerator
) -> tuple[dict[str, float], float]:
    """The loss of each head on the validation part, in nats, and their weighted sum."""
    objective.eval()
    torch.manual_seed(config.seed)  # for the drawn negatives of a large catalogue
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in objective.model.config.heads}
    with torch.inference_mode(), accelerator.autocast():
        for batch in part.batches(_VALID_BATCH):
            for name, of in objective(*tensors(batch, accelerator)).items():
                sums[name] += of.double().cpu()
    heads = {name: (of[0] / of[1].clamp(min=1)).item() for name, of in sums.items()}
    return heads, sum(objective.weights[name] * loss for name, loss in heads.items())


def check_finite(
    loss: float, gradient: float, step: int, config: TrainConfig, folder: Path | None
) -> None:
    """Ends the loop before a broken number gets into the weights."""
    for name, value in (("loss", loss), ("gradient", gradient)):
        if not math.isfinite(value):
            raise FatalError(
                f"the {name} became {value} in step {step + 1}: train again with a lower rate "
                f"than {config.rate}{_kept(folder)}"
            )


@contextmanager
def out_of_memory_told(config: TrainConfig, folder: Path | None) -> Iterator[None]:
    """Ends the loop with one sentence when memory does not suffice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # On a CPU torch has no class for it.
        words = ("memory", "DefaultCPUAllocator")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise FatalError(
            f"out of memory with {config.batch} examples a step: train with a smaller batch"
            f"{_kept(folder)}"
        ) from error


def _kept(folder: Path | None) -> str:
    return f"; the last good standing is kept in {folder}" if folder else ""


def no_time_left(at: Standing, config: TrainConfig) -> bool:
    """Whether one more epoch would take longer than allowed; the first process tells the others."""
    if config.minutes is None:
        return False
    done = len(at.epochs)
    over = at.seconds * (done + 1) / done > config.minutes * 60
    return bool(broadcast_object_list([over])[0])
