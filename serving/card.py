"""A model's card: what it is, what it was made of, and what it must be used with.

A model has two graphs of the same weights: `model.onnx`, which says what a decision needs and what
costs nothing more, and, where there are heads for tokens, `heads.onnx`, which says everything. It
may have step graphs as well, `step-0.onnx` and one for each layer, which say what `model.onnx` says
and read a path step by step (`serving.incremental_graphs`).
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTIONS
from serving.outputs import KNOWN_HEADS, REQUIRED_HEADS
from serving.reference import Reference

#: The files of a model, in a directory of its own.
MODEL_FILE: Final = "model.onnx"
HEADS_FILE: Final = "heads.onnx"
CARD_FILE: Final = "card.json"

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Card(BaseModel):
    """The content of `card.json`.

    Attributes:
        format: Version of this record.
        name: For people.
        sha256: Digest of `model.onnx`, 64 hexadecimal digits.
        encoder: Fingerprint of the encoder that made the model's examples.
        actions: The vocabulary, in order of action id.
        steps: Longest path in steps.
        heads: What `model.onnx` says; see `serving.outputs`.
        all_heads: What `heads.onnx` says; none where there is no such file.
        all_heads_sha256: Digest of `heads.onnx`.
        step_sha256: Digests of the step graphs, in order; none where there are no such files.
        calibration: By head, what its logits were corrected by after training.
        data: What it was trained on.
        metrics: How good it was, on data that it had not seen, beside the baselines.
        command: The exact command that made it.
        reference: What its inputs and scores were like, for drift; None in older cards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    name: str
    sha256: _Digest
    encoder: str = Field(pattern=r"^[0-9a-f]{16}$")
    # A JSON array is a list, which a strict tuple refuses.
    actions: tuple[str, ...] = Field(strict=False)
    steps: int = Field(ge=1)
    heads: tuple[str, ...] = Field(default=REQUIRED_HEADS, strict=False)
    all_heads: tuple[str, ...] = Field(default=(), strict=False)
    all_heads_sha256: _Digest | None = None
    step_sha256: tuple[_Digest, ...] = Field(default=(), strict=False)
    calibration: dict[str, JsonValue] = {}
    data: dict[str, JsonValue] = {}
    metrics: dict[str, JsonValue] = {}
    command: str
    reference: Reference | None = None

    @property
    def digest(self) -> str:
        """The model's digest as decisions record it: 16 hexadecimal digits."""
        return self.sha256[:16]


def step_file(number: int | str) -> str:
    """The name of a step graph's file; number 0 embeds, each other one is a layer, * is any."""
    return f"step-{number}.onnx"


def step_files(directory: Path) -> list[str]:
    """The names of the step graphs in a directory."""
    return sorted(path.name for path in directory.glob(step_file("*")))


def read_card(directory: Path) -> Card:
    """The card of the model in a directory.

    Raises:
        ModelMismatch: There is no card, or it is not of this form.
    """
    path = directory / CARD_FILE
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelMismatch(
            f"there is no model card to read at {path}: {error.strerror}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ModelMismatch(f"{path} is no model card: {place}: {first['msg']}") from error


def write_card(card: Card, directory: Path) -> None:
    """Writes the card of the model in a directory."""
    (directory / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_model(directory: Path, *, every_head: bool = False) -> bytes:
    """A model file in a directory. It must hold all its weights: only this file has a digest.

    Args:
        directory: Where.
        every_head: Whether to read the graph with all heads.

    Raises:
        ModelMismatch: There is no such file.
    """
    return _read(directory / (HEADS_FILE if every_head else MODEL_FILE))


def read_step_graphs(card: Card, directory: Path) -> list[bytes]:
    """The step graphs of a model, each with the digest that the card gives.

    Raises:
        ModelMismatch: The model has none, one is missing, or it is another one.
    """
    if not card.step_sha256:
        raise ModelMismatch(f"the model in {directory} has no step graphs to follow a path with")
    graphs = []
    for number, expected in enumerate(card.step_sha256):
        graph = _read(directory / step_file(number))
        _check_digest(graph, expected, directory, step_file(number))
        graphs.append(graph)
    return graphs


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelMismatch(f"there is no model to read at {path}: {error.strerror}") from error


def _check_digest(graph: bytes, expected: str | None, directory: Path, file: str) -> None:
    found = sha256(graph).hexdigest()
    if expected != found:
        raise ModelMismatch(
            f"the card in {directory} is of a model with digest {(expected or 'none')[:16]}, "
            f"but {file} has {found[:16]}"
        )


def check_card(
    card: Card, model: bytes, encoder: Encoder, directory: Path, *, every_head: bool = False
) -> None:
    """Checks that a card fits its model, the encoder and the vocabulary.

    Args:
        card: The card.
        model: The content of the model file.
        encoder: The encoder whose paths the model will be given.
        directory: How to call the model in messages.
        every_head: Whether it is the graph with all heads.

    Raises:
        ModelMismatch: It does not fit; the message has both values.
    """
    expected = card.all_heads_sha256 if every_head else card.sha256
    _check_digest(model, expected, directory, HEADS_FILE if every_head else MODEL_FILE)
    heads = card.all_heads if every_head else card.heads
    for head in REQUIRED_HEADS:
        if head not in heads:
            raise ModelMismatch(
                f"the model in {directory} has no head {head}, which decisions need; "
                f"it has {', '.join(heads)}"
            )
    for head in heads:
        if head not in KNOWN_HEADS:
            raise ModelMismatch(
                f"the model in {directory} has a head {head}, here are {', '.join(KNOWN_HEADS)}"
            )
    if card.actions != ACTIONS:
        at = next(
            (n for n, (a, b) in enumerate(zip(card.actions, ACTIONS, strict=False)) if a != b),
            min(len(card.actions), len(ACTIONS)),
        )
        theirs, ours = (
            repr(names[at]) if at < len(names) else "nothing" for names in (card.actions, ACTIONS)
        )
        raise ModelMismatch(
            f"the model in {directory} has action {at + 1} as {theirs}, here it is {ours}"
        )
    if card.steps != encoder.window.steps:
        raise ModelMismatch(
            f"the model in {directory} reads paths of {card.steps} steps, "
            f"the window keeps {encoder.window.steps}"
        )
    if card.encoder != encoder.fingerprint:
        raise ModelMismatch(
            f"the model in {directory} was trained with encoder {card.encoder}, "
            f"the encoder in use is {encoder.fingerprint}"
        )
