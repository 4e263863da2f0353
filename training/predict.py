"""What a model says after the last step of each path: of the trained model and of its graph alike.

Both give the outputs that `serving.outputs` names, for all rows of a part in their stored order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from clickpath.errors import FatalError
from serving.graph import Graph
from serving.outputs import CANDIDATES, TOKEN_HEADS, Outputs
from training.dataset import Part
from training.form import KIND
from training.labels import HEAD
from training.metrics import binary, multiclass, of_list
from training.model import PathModel, States

#: Largest difference between a probability of the trained model and of the exported file.
EXPORT_TOLERANCE: Final = 1e-4

_BATCH: Final = 256


def predict(model: PathModel, part: Part, batch: int = _BATCH) -> Outputs:
    """The outputs of a trained model."""
    model.eval()
    device = next(model.parameters()).device
    pieces: list[Outputs] = []
    with torch.inference_mode():
        for some in part.batches(batch):
            states = model.states(torch.from_numpy(some.paths).to(device))
            last = torch.zeros(some.paths.shape[::2], dtype=torch.bool)  # (B, T)
            last[torch.arange(len(some)), torch.from_numpy(some.lengths - 1)] = True
            pieces.append(outputs_of(model, states.at(last.to(device))))
    return _joined(pieces)


def outputs_of(model: PathModel, states: States) -> Outputs:
    """The outputs for some states, (N, D)."""
    outputs: dict[str, torch.Tensor] = {}
    for name in model.config.heads:
        logits = model.say(name, states).double()
        if KIND[name] == "binary":
            outputs[name] = logits.sigmoid()
        elif KIND[name] == "action":
            outputs[name] = logits.softmax(-1)
        else:
            tokens = model.tokens(name)
            best = logits.softmax(-1).topk(min(CANDIDATES, tokens.known), -1)
            outputs[name] = best.values
            outputs[f"{name}_token"] = tokens.tokens[best.indices]
    return {name: of.detach().cpu().numpy() for name, of in outputs.items()}


def run_graph(graph: Graph, part: Part, batch: int = _BATCH) -> Outputs:
    """The outputs of an exported model."""
    return _joined([graph.run(some.paths) for some in part.batches(batch)])


def _joined(pieces: list[Outputs]) -> Outputs:
    return {name: np.concatenate([of[name] for of in pieces]) for name in pieces[0]}


def check_export(trained: Outputs, exported: Outputs) -> None:
    """Checks that an exported model says what the trained one says, of the heads that it has.

    The tokens of a list are not compared: equally likely ones may stand in any order.

    Raises:
        FatalError: Some probability differs by more than `EXPORT_TOLERANCE`.
    """
    names = [name for name in exported if not name.endswith("_token")]
    # np.max keeps a NaN; max() may lose it.
    worst = float(np.max([np.abs(trained[name] - exported[name]).max() for name in names]))
    if not worst <= EXPORT_TOLERANCE:
        raise FatalError(
            f"the exported model differs from the trained one by {worst:.2g}, "
            f"at most {EXPORT_TOLERANCE:g} is allowed"
        )


def measure(part: Part, outputs: Outputs) -> dict[str, dict[str, float]]:
    """The figures of each head, over the paths whose last label is known.

    Args:
        part: Valid or test.
        outputs: What a model or a baseline says; heads without a label are left out.
    """
    labels = part.last_labels()
    figures: dict[str, dict[str, float]] = {}
    for name, label in labels.items():
        known = label != HEAD[name].unknown
        if name not in outputs or not known.any():
            continue
        said = outputs[name][known].astype(np.float64)
        if name in TOKEN_HEADS:
            tokens = outputs[f"{name}_token"][known].astype(np.int64)
            of_head = of_list(label[known], tokens, said).figures()
            figures[name] = {**of_head, "n": int(known.sum())}
        elif KIND[name] == "binary":
            figures[name] = binary(label[known] == 1, said)
        else:
            figures[name] = multiclass(label[known], said)
    return figures
