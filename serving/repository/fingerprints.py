"""What a version and its user must agree on, as it travels in Triton's configuration.

Beside it travels a signature over its text, where the version was signed. It says who vouches for
the version; that the server runs this very graph it cannot say.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTIONS
from serving.card import Card
from serving.manifest import signed_by
from serving.outputs import KNOWN_HEADS, REQUIRED_HEADS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

#: Keys of the model's parameters with the fingerprints of a version and with their signature; its
#: number follows.
PARAMETER: Final = "clickpath.version."
SIGNATURE_PARAMETER: Final = "clickpath.signature."

#: In a version's directory: the signature over its fingerprints, in hexadecimal.
FINGERPRINTS_SIGNATURE_FILE: Final = "fingerprints.sig"


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

    @property
    def text(self) -> str:
        """As it travels, and is signed."""
        return self.model_dump_json()

    def differs(self, other: Fingerprints) -> str:
        """The first difference from others, in words; empty where there is none."""
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {mine} and {theirs}"
        return ""

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


class Vouched(NamedTuple):
    """Fingerprints, and who vouches for them.

    Attributes:
        fingerprints: Of a version.
        signature: Over their text, in hexadecimal; empty where nobody signed.
    """

    fingerprints: Fingerprints
    signature: str = ""

    @classmethod
    def of(cls, directory: Path, card: Card) -> Vouched:
        """Those of the version in a directory.

        Raises:
            ModelMismatch: The signature cannot be read.
        """
        path = directory / FINGERPRINTS_SIGNATURE_FILE
        try:
            signature = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            signature = ""
        except (OSError, UnicodeDecodeError) as error:
            raise ModelMismatch(f"cannot read {path}: {error}") from error
        return cls(Fingerprints.of(card), signature)

    def check_signature(self, public_key: Ed25519PublicKey, where: str) -> None:
        """Checks that a key vouches for them.

        Raises:
            ModelMismatch: It does not.
        """
        if not signed_by(public_key, self.signature, self.fingerprints.text.encode()):
            raise ModelMismatch(
                f"the {where} has fingerprints that the configured key has not signed: "
                f"{self.signature[:16]!r}; `--sign` does when a version is added"
            )


def write_signature(card: Card, directory: Path, private_key: Ed25519PrivateKey) -> None:
    """Writes the signature over the fingerprints of a version into its directory."""
    signature = private_key.sign(Fingerprints.of(card).text.encode()).hex()
    (directory / FINGERPRINTS_SIGNATURE_FILE).write_text(signature + "\n", encoding="ascii")


def _of_actions(actions: tuple[str, ...]) -> str:
    return sha256("\n".join(actions).encode()).hexdigest()[:16]
