"""The training loop: seeded, visible, with its choice of a checkpoint made on validation data only.

On a CPU the same data, configuration and seed give the same weights, bit for bit, as long as the
number of threads and the version of torch are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clickpath.encoding import FEATURE_NAMES
from clickpath.errors import FatalError
from training.dataset import Batch, Ints, Part
from training.labels import UNKNOWN
from training.metrics import Floats, binary, multiclass
from training.model import ModelConfig, PathModel

_ITEM: Final = FEATURE_NAMES.index("item")
_CATEGORY: Final = FEATURE_NAMES.index("category")
_MASK_62: Final = (1 << 62) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        seed: Of the weights, the order of the examples, dropout and disguise.
        epochs: Most passes over the training part.
        minutes: Most time for the loop; a run that ends by it cannot be repeated to the bit.
        batch: Examples per step.
        rate: Highest learning rate.
        warm_up: Share of all steps over which the rate rises; then it falls along a cosine.
        clip: Largest norm of a gradient.
        weight_decay: Of AdamW.
        patience: Epochs without a better validation loss before the loop stops.
        purchase_weight: Weight of the purchase loss; that of the next action is 1. Its loss is
            about a third of the other's and most rules ask its head, hence 3.
        disguise: Share of the paths whose items and categories get other hashes, consistently, so
            that the model also learns what holds for products it has never seen.
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
    purchase_weight: float = 3.0
    disguise: float = 0.7


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass: mean training loss, validation loss, and how long it took all in all."""

    number: int
    train_loss: float
    valid_loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Trained:
    """The best model by validation loss, and the history of the loop."""

    model: PathModel
    epochs: tuple[Epoch, ...]
    best: int


#: Called after each step with (steps done, steps in all, loss), and after each epoch.
Progress = Callable[[int, int, float, Epoch | None], None]


def train(
    train_part: Part,
    valid_part: Part,
    model_config: ModelConfig,
    config: TrainConfig,
    progress: Progress = lambda *_: None,
) -> Trained:
    """Trains a model from nothing.

    Raises:
        FatalError: The loss is not a finite number any more.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model = PathModel(model_config)
    optimizer = torch.optim.AdamW(
        _decayed(model, config.weight_decay), lr=config.rate, betas=(0.9, 0.98), fused=True
    )
    per_epoch = -(-len(train_part) // config.batch)
    total = per_epoch * config.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_at(step / total, config.warm_up)
    )
    started_s = monotonic()
    history: list[Epoch] = []
    best_loss, best, best_weights = math.inf, 0, model.state_dict()
    step = 0
    for number in range(1, config.epochs + 1):
        model.train()
        losses = []
        for batch in train_part.batches(config.batch, (config.seed, number)):
            paths = disguised(batch.paths, config.disguise, rng)
            loss = loss_of(model, paths, batch, config.purchase_weight)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            step += 1
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise FatalError(
                    f"the loss became {losses[-1]} in epoch {number}, step {step}: "
                    f"train again with a lower rate than {config.rate}"
                )
            progress(step, total, losses[-1], None)
        valid_loss = validation_loss(model, valid_part, config)
        spent_s = monotonic() - started_s
        epoch = Epoch(number, sum(losses) / len(losses), valid_loss, spent_s)
        history.append(epoch)
        progress(step, total, losses[-1], epoch)
        if valid_loss < best_loss:
            best_loss, best = valid_loss, number
            best_weights = {name: w.detach().clone() for name, w in model.state_dict().items()}
        elif number - best >= config.patience:
            break
        if config.minutes is not None and spent_s * (number + 1) / number > config.minutes * 60:
            break
    model.load_state_dict(best_weights)
    model.eval()
    return Trained(model, tuple(history), best)


def rate_at(done: float, warm_up: float) -> float:
    """The share of the highest learning rate after a share of the steps: warm-up, then cosine."""
    if done < warm_up:
        return (done + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warm_up) / (1 - warm_up))))


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; norms and biases do not."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def disguised(paths: Ints, share: float, rng: np.random.Generator) -> Ints:
    """The paths, a share of them with other hashes; what was equal stays equal.

    Args:
        paths: Shape (batch, FEATURES, time).
        share: Of the paths, from 0 to 1.
        rng: Says which ones.
    """
    salts = rng.integers(1, _MASK_62, size=(len(paths), 2))
    salts[rng.random(len(paths)) >= share] = 0
    other = paths.copy()
    for column, feature in enumerate((_ITEM, _CATEGORY)):
        hashes = paths[:, feature]
        other[:, feature] = np.where(hashes != 0, (hashes ^ salts[:, column, None]) | 1, 0)
        plain = salts[:, column] == 0
        other[plain, feature] = hashes[plain]
    return other


def loss_of(model: PathModel, paths: Ints, batch: Batch, purchase_weight: float) -> Tensor:
    """Mean loss over the known labels of a batch: cross entropies in nats, weighted."""
    logits, purchase = model(torch.from_numpy(paths))
    next_action = torch.from_numpy(batch.labels["next_action"]).long()
    label = torch.from_numpy(batch.labels["purchase"])
    known = label != UNKNOWN
    of_actions = functional.cross_entropy(
        logits.flatten(0, 1), next_action.flatten(), ignore_index=0, reduction="sum"
    ) / (next_action != 0).sum().clamp(min=1)
    of_purchase = functional.binary_cross_entropy_with_logits(
        purchase[known], label[known].float(), reduction="sum"
    ) / known.sum().clamp(min=1)
    total: Tensor = of_actions + purchase_weight * of_purchase
    return total


def predict(model: PathModel, part: Part, batch: int = 256) -> tuple[Floats, Floats]:
    """Probabilities after the last step of each path: (n, ACTION_COUNT) and (n,)."""
    model.eval()
    actions: list[NDArray[np.float64]] = []
    purchases: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for some in part.batches(batch):
            logits, purchase = model(torch.from_numpy(some.paths))
            rows = torch.arange(len(some))
            last = torch.from_numpy(some.lengths - 1)
            actions.append(logits[rows, last].double().softmax(-1).numpy())
            purchases.append(purchase[rows, last].double().sigmoid().numpy())
    return np.concatenate(actions), np.concatenate(purchases)


def measure(part: Part, said: tuple[Floats, Floats]) -> dict[str, dict[str, float]]:
    """The figures of both heads, over the paths whose labels are known.

    Args:
        part: Valid or test.
        said: What a model or a baseline says after the last step of each path.
    """
    labels = part.last_labels()
    next_action, purchase = labels["next_action"], labels["purchase"]
    seen, settled = next_action != 0, purchase != UNKNOWN
    return {
        "next_action": multiclass(next_action[seen], said[0][seen]),
        "purchase": binary(purchase[settled] == 1, said[1][settled]),
    }


def validation_loss(model: PathModel, part: Part, config: TrainConfig) -> float:
    """The training loss, on what the worker would ask in the validation part."""
    figures = measure(part, predict(model, part))
    return (
        figures["next_action"]["log_loss"]
        + config.purchase_weight * figures["purchase"]["log_loss"]
    )
