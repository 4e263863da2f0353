"""What a version and its user must agree on, as it travels in Triton's configuration."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTIONS
from serving.card import Card
from serving.outputs import KNOWN_HEADS, REQUIRED_HEADS

#: Key of the model's parameter with the fingerprints of a version; its number follows.
PARAMETER: Final = "clickpath.version."


class Fingerprints(BaseModel):
    """The fingerprints of a version.

    Attributes:
        digest: Of the graph, as decisions record it.
        encoder: Of the encoder that made the model's examples.
        actions: Of the vocabulary.
        steps: Longest path in steps.
        heads: What the graph says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    digest: str = Field(pattern=r"^[0-9a-f]{16}$")
    encoder: str = Field(pattern=r"^[0-9a-f]{16}$")
    actions: str = Field(pattern=r"^[0-9a-f]{16}$")
    steps: int = Field(ge=1)
    heads: tuple[str, ...] = Field(strict=False)

    @classmethod
    def of(cls, card: Card) -> Self:
        """The fingerprints of the model with this card."""
        return cls(
            digest=card.digest,
            encoder=card.encoder,
            actions=_of_actions(card.actions),
            steps=card.steps,
            heads=card.heads,
        )

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        """The fingerprints in a parameter.

        Raises:
            ModelMismatch: The text is not of this form.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the parameter"
            raise ModelMismatch(
                f"the {where} has no fingerprints: {place}: {first['msg']}"
            ) from error

    def check(self, encoder: Encoder, where: str) -> None:
        """Checks that the paths of an encoder may be given to the version.

        Raises:
            ModelMismatch: They may not; the message has both values.
        """
        ours = _of_actions(ACTIONS)
        if self.actions != ours:
            raise ModelMismatch(f"the {where} has actions {self.actions}, here they are {ours}")
        if self.steps != encoder.window.steps:
            raise ModelMismatch(
                f"the {where} reads paths of {self.steps} steps, "
                f"the window keeps {encoder.window.steps}"
            )
        if self.encoder != encoder.fingerprint:
            raise ModelMismatch(
                f"the {where} was trained with encoder {self.encoder}, "
                f"the encoder in use is {encoder.fingerprint}"
            )
        for head in REQUIRED_HEADS:
            if head not in self.heads:
                raise ModelMismatch(
                    f"the {where} has no head {head}, which decisions need; "
                    f"it has {', '.join(self.heads)}"
                )
        for head in self.heads:
            if head not in KNOWN_HEADS:
                raise ModelMismatch(
                    f"the {where} has a head {head}, here are {', '.join(KNOWN_HEADS)}"
                )


def _of_actions(actions: tuple[str, ...]) -> str:
    return sha256("\n".join(actions).encode()).hexdigest()[:16]
