"""A model as serving reads it: the graphs, each checked against the weights, and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import JsonValue

from clickpath.encoding import Encoder
from clickpath.vocabulary import ACTIONS
from serving.card import HEADS_FILE, MODEL_FILE, Card, read_card, step_file, step_files, write_card
from serving.graph import Graph
from serving.int8 import quantized
from serving.outputs import REQUIRED_HEADS, TOKEN_HEADS
from serving.reference import reference_of, write_items
from training.dataset import Part
from training.export import only, to_onnx
from training.model import PathModel
from training.predict import check_export, predict, run_graph
from training.step_graphs import step_graphs

NAME: Final = "clickpath path transformer"
_QUANTIZING_BATCH: Final = 256
_BATCH: Final = 256


def write_package(
    model: PathModel,
    encoder: Encoder,
    directory: Path,
    command: str,
    data: Mapping[str, JsonValue],
) -> Card:
    """Writes the graphs of a model and a card without figures.

    Args:
        model: Trained.
        encoder: Of its examples.
        directory: Where serving will find it.
        command: What made it.
        data: What it was made of.
    """
    steps = encoder.window.steps
    every = model.config.heads
    quick = tuple(name for name in every if name not in TOKEN_HEADS)
    whole = to_onnx(model, steps)
    graph = whole if quick == every else only(whole, quick)
    (directory / MODEL_FILE).write_bytes(graph)
    card = Card(
        name=NAME,
        sha256=sha256(graph).hexdigest(),
        encoder=encoder.fingerprint,
        actions=ACTIONS,
        steps=steps,
        heads=quick,
        data=dict(data),
        command=command,
    )
    (directory / HEADS_FILE).unlink(missing_ok=True)
    if quick != every:
        (directory / HEADS_FILE).write_bytes(whole)
        digest = sha256(whole).hexdigest()
        card = card.model_copy(update={"all_heads": every, "all_heads_sha256": digest})
    card = card.model_copy(
        update={"step_sha256": _write_step_graphs(model, quick, directory, steps)}
    )
    write_card(card, directory)
    return card


def _write_step_graphs(
    model: PathModel, heads: Sequence[str], directory: Path, steps: int
) -> tuple[str, ...]:
    """Writes the step graphs of a model, and gives their digests.

    There are none of a model that looks back further than a path is kept: what it says after a
    step depends on how much of the path before it is there. And none of one whose heads look at
    more than the step's vector.
    """
    for old in step_files(directory):
        (directory / old).unlink()
    if model.config.reach > steps or not {*heads} <= {*model.linear_heads}:
        return ()
    graphs = step_graphs(model, heads)
    for number, graph in enumerate(graphs):
        (directory / step_file(number)).write_bytes(graph)
    return tuple(sha256(graph).hexdigest() for graph in graphs)


def quantize_package(directory: Path, part: Part) -> Card:
    """Turns the graphs in a directory into 8 bits, on the paths of a part; see `serving.int8`."""
    card = read_card(directory)
    # The step graphs stay as they are no longer: they would say what the exact model says.
    for number in range(len(card.step_sha256)):
        (directory / step_file(number)).unlink()
    changes: dict[str, object] = {"step_sha256": ()}
    for file, digest in ((MODEL_FILE, "sha256"), (HEADS_FILE, "all_heads_sha256")):
        path = directory / file
        if path.exists():
            batches = (batch.paths for batch in part.batches(_QUANTIZING_BATCH))
            graph = quantized(path.read_bytes(), batches)
            path.write_bytes(graph)
            changes[digest] = sha256(graph).hexdigest()
    card = card.model_copy(update=changes)
    write_card(card, directory)
    return card


def check_package(model: PathModel, encoder: Encoder, directory: Path, part: Part) -> bool:
    """Checks that the graphs in a directory say what the model says about some paths.

    Returns:
        Whether serving can use it; without the heads that decisions need it cannot.

    Raises:
        ModelMismatch: A graph does not fit its card.
        FatalError: A graph says something else.
    """
    if not {*REQUIRED_HEADS} <= {*model.config.heads}:
        return False
    trained = predict(model, part)
    for every_head in (False, True):
        if not every_head or (directory / HEADS_FILE).exists():
            graph = Graph(directory, encoder, every_head=every_head)
            check_export(trained, run_graph(graph, part))
    return True


def with_reference(card: Card, model: PathModel, part: Part, directory: Path) -> Card:
    """The card with what inputs and scores of a hold-out are like; needs a purchase head.

    The items that the model knows are written beside it.
    """
    if "purchase" not in model.config.heads:
        return card
    known = model.embed.items.tokens.numpy()
    write_items(known[known != 0], directory)
    steps = np.concatenate(
        [batch.paths[np.arange(len(batch)), :, batch.lengths - 1] for batch in part.batches(_BATCH)]
    )
    said = predict(model, part)["purchase"].astype(np.float64)
    return card.model_copy(update={"reference": reference_of(steps, said, known)})
