"""A model's card: what it is, what it was made of, and what it must be used with."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTIONS

#: The files of a model, in a directory of its own.
MODEL_FILE: Final = "model.onnx"
CARD_FILE: Final = "card.json"


class Card(BaseModel):
    """The content of `card.json`.

    Attributes:
        format: Version of this record.
        name: For people.
        sha256: Digest of `model.onnx`, 64 hexadecimal digits.
        encoder: Fingerprint of the encoder that made the model's examples.
        actions: The vocabulary, in order of action id.
        steps: Longest path in steps.
        data: What it was trained on.
        metrics: How good it was, on data that it had not seen, beside the baselines.
        command: The exact command that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    encoder: str = Field(pattern=r"^[0-9a-f]{16}$")
    # A JSON array is a list, which a strict tuple refuses.
    actions: tuple[str, ...] = Field(strict=False)
    steps: int = Field(ge=1)
    data: dict[str, JsonValue] = {}
    metrics: dict[str, JsonValue] = {}
    command: str

    @property
    def digest(self) -> str:
        """The model's digest as decisions record it: 16 hexadecimal digits."""
        return self.sha256[:16]


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


def read_model(directory: Path) -> bytes:
    """The model file in a directory. It must hold all its weights: only this file has a digest.

    Raises:
        ModelMismatch: There is no such file.
    """
    path = directory / MODEL_FILE
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelMismatch(f"there is no model to read at {path}: {error.strerror}") from error


def check_card(card: Card, model: bytes, encoder: Encoder, directory: Path) -> None:
    """Checks that a card fits its model, the encoder and the vocabulary.

    Args:
        card: The card.
        model: The content of the model file.
        encoder: The encoder whose paths the model will be given.
        directory: How to call the model in messages.

    Raises:
        ModelMismatch: It does not fit; the message has both values.
    """
    found = sha256(model).hexdigest()
    if card.sha256 != found:
        raise ModelMismatch(
            f"the card in {directory} is of a model with digest {card.digest}, "
            f"but {MODEL_FILE} has {found[:16]}"
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
