"""Probabilities that mean what they say: each head's logits are scaled on the validation part.

Temperature scaling (Guo et al., "On calibration of modern neural networks", 2017): one slope for
all classes of a head, so that no order changes; a yes or no gets a shift as well (Platt, 1999).
All heads are linear in their own weights, hence slope and shift go into these weights, exactly:
whatever is made of the model afterwards - a graph, a student, 8-bit integers - is calibrated, and
nothing has to be applied at serving time. `calibration.json` beside the model keeps what was done.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clickpath.errors import ModelMismatch
from training.dataset import Part
from training.form import KIND
from training.labels import HEAD
from training.metrics import Certainty
from training.model import PathModel

CALIBRATION_FILE: Final = "calibration.json"

_BATCH: Final = 256

#: Fewest known labels that a head is scaled by.
_FEWEST: Final = 100

#: Most logits of a head that are held at once: a large catalogue is scaled by fewer rows.
_MOST_LOGITS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Scaling:
    """What was done to the logits of a head, and what came of it on the validation part.

    Attributes:
        slope: They were multiplied by this: one over the temperature.
        shift: Then this was added; 0 but for yes or no.
        rows: Labels behind it.
        log_loss: Before and after, in nats.
        ece: Expected calibration error before and after.
    """

    slope: float
    shift: float
    rows: int
    log_loss: tuple[float, float]
    ece: tuple[float, float]


#: By head; heads with too few labels are not in it.
Calibration = dict[str, Scaling]


def calibrate(model: PathModel, valid: Part) -> Calibration:
    """Scales the heads of a model, in its own weights.

    Args:
        model: Trained; changed in place.
        valid: The validation part, of which only the last step of each path is looked at.
    """
    calibration = {}
    for name in model.config.heads:
        logits, label = _asked(model, name, valid)
        if len(label) < _FEWEST:
            continue
        scaling = fitted(logits, label, HEAD[name].kind == "binary")
        fold(model.heads[name], scaling)
        calibration[name] = scaling
    return calibration


def _asked(model: PathModel, name: str, part: Part) -> tuple[Tensor, Tensor]:
    """Logits and labels of one head where its label is known, (N, ...) and (N,)."""
    model.eval()
    device = next(model.parameters()).device
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    held = 0
    with torch.inference_mode():
        for batch in part.batches(_BATCH):
            label = torch.from_numpy(batch.last_labels()[name]).to(device)
            if KIND[name] == "token":
                tokens = model.tokens(name)
                label = tokens(label)
                label = label * (label <= tokens.known)
            known = label != HEAD[name].unknown
            last = torch.zeros(batch.paths.shape[::2], dtype=torch.bool, device=device)
            last[torch.arange(len(batch)), torch.from_numpy(batch.lengths - 1)] = known
            states = model.states(torch.from_numpy(batch.paths).to(device))
            logits.append(model.say(name, states.at(last)).float())
            labels.append(label[known])
            held += logits[-1].numel()
            if held > _MOST_LOGITS:
                break
    # A copy: what was made under inference_mode takes no part in a gradient.
    return torch.cat(logits).clone(), torch.cat(labels).clone()


def fitted(logits: Tensor, label: Tensor, binary: bool) -> Scaling:
    """The slope, and for yes or no the shift, with the lowest log loss.

    Args:
        logits: Shape (N,) of yes, or (N, classes).
        label: Shape (N,).
        binary: Whether it is yes or no.
    """
    log_slope = torch.zeros(1, requires_grad=True)
    shift = torch.zeros(1, requires_grad=binary)

    def loss_of(slope: Tensor) -> Tensor:
        scaled = logits * slope + shift
        if binary:
            return functional.binary_cross_entropy_with_logits(scaled, label.float())
        return functional.cross_entropy(scaled, label)

    steps = torch.optim.LBFGS(
        [log_slope, shift] if binary else [log_slope], max_iter=50, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        steps.zero_grad()
        loss = loss_of(log_slope.exp())
        loss.backward()
        return loss

    before = _standing(logits, label, binary)
    steps.step(closure)
    slope = log_slope.detach().exp()
    after = _standing(logits * slope + shift.detach(), label, binary)
    if not after[0] < before[0]:
        return Scaling(1.0, 0.0, len(label), (before[0], before[0]), (before[1], before[1]))
    pairs = zip(before, after, strict=True)
    log_loss, ece = ((first, second) for first, second in pairs)
    return Scaling(slope.item(), shift.item(), len(label), log_loss, ece)


def _standing(logits: Tensor, label: Tensor, binary: bool) -> tuple[float, float]:
    """Log loss and calibration error."""
    if binary:
        loss = functional.binary_cross_entropy_with_logits(logits, label.float())
        said, came = logits.double().sigmoid(), label == 1
    else:
        loss = functional.cross_entropy(logits, label)
        said, likely = logits.double().softmax(-1).max(-1)
        came = likely == label
    return loss.item(), Certainty.of(said.numpy(), np.asarray(came.numpy(), bool)).error()


def fold(head: nn.Module, scaling: Scaling) -> None:
    """Puts slope and shift into the weights of a head, all of which are linear in its logits."""
    with torch.no_grad():
        for weight in head.parameters():
            weight.mul_(scaling.slope)
        if scaling.shift:
            assert isinstance(head, nn.Linear)
            head.bias.add_(scaling.shift)


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Writes the record of a calibration beside its model."""
    record = {name: asdict(scaling) for name, scaling in calibration.items()}
    text = json.dumps(record, indent=2)
    (folder / CALIBRATION_FILE).write_text(text + "\n", encoding="utf-8")


def read_calibration(folder: Path) -> Calibration:
    """The record of a calibration; empty where there is none.

    Raises:
        ModelMismatch: It cannot be read.
    """
    path = folder / CALIBRATION_FILE
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Scaling(
                of["slope"], of["shift"], of["rows"], tuple(of["log_loss"]), tuple(of["ece"])
            )
            for name, of in record.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelMismatch(f"{path} is no record of a calibration: {error}") from error
