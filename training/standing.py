"""How far a training loop has come: everything that it needs to go on to the same bits.

One file of tensors with a record in its header, replaced as a whole: whenever the process ends,
the last good standing is there. No code in it, no pickles.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from clickpath.errors import UsageError

STANDING_FILE: Final = "standing.safetensors"


class Epoch(NamedTuple):
    """One pass over the training part.

    Attributes:
        number: From 1.
        train_loss: Mean over its steps.
        valid_loss: The same weighted sum of losses, on the validation part.
        heads: The validation loss of each head, in nats, not weighted.
        seconds: Since the loop began, all in all.
    """

    number: int
    train_loss: float
    valid_loss: float
    heads: dict[str, float]
    seconds: float


@dataclass(slots=True)
class Standing:
    """How far a loop has come.

    Attributes:
        step: Steps done, in all epochs.
        loss: Sum of the losses of the steps of this epoch.
        seconds: Spent so far.
        epochs: Those that are done.
        weights: Of the best epoch so far, by name; none before the first is done.
    """

    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The number of the epoch with the lowest validation loss; 0 before the first."""
        return min(self.epochs, key=lambda epoch: epoch.valid_loss).number if self.epochs else 0

    @property
    def best_loss(self) -> float:
        """Its validation loss."""
        return self.epochs[self.best - 1].valid_loss if self.epochs else math.inf


def save_standing(
    folder: Path, at: Standing, model: nn.Module, optimizer: Optimizer, plan: str
) -> None:
    """Writes the standing of a loop.

    Args:
        folder: Where.
        at: The standing.
        model: As it is now.
        optimizer: Over its parameters.
        plan: What the loop is about; another plan cannot go on from here.
    """
    tensors = {f"model.{name}": of for name, of in model.state_dict().items()}
    tensors |= {f"best.{name}": of for name, of in at.weights.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": of for name, of in state.items()}
    record = {
        "plan": plan,
        "step": at.step,
        "loss": at.loss,
        "seconds": at.seconds,
        "epochs": at.epochs,
    }
    path = folder / STANDING_FILE
    unfinished = path.with_suffix(".unfinished")
    save_file(
        {name: of.detach().cpu().clone() for name, of in tensors.items()},
        unfinished,
        {"standing": json.dumps(record)},
    )
    os.replace(unfinished, path)


def load_standing(folder: Path, model: nn.Module, optimizer: Optimizer, plan: str) -> Standing:
    """The standing that a loop has left, put into its model and optimizer; a new one if none.

    Raises:
        UsageError: It cannot be read, or is of a loop with another plan.
    """
    path = folder / STANDING_FILE
    if not path.exists():
        return Standing()
    try:
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()["standing"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the standing in {path} cannot be read: {error}") from error
    if record["plan"] != plan:
        raise UsageError(
            f"{path} is of a run with other data or another configuration: remove it to begin anew"
        )
    model.load_state_dict(_under("model", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, of in _under("optimizer", tensors).items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = of
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    epochs = [Epoch(*of) for of in record["epochs"]]
    return Standing(
        record["step"], record["loss"], record["seconds"], epochs, _under("best", tensors)
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    start = f"{prefix}."
    return {name[len(start) :]: of for name, of in tensors.items() if name.startswith(start)}
