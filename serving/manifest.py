"""A model version's manifest: what lies in its directory, byte for byte, and who vouches for it.

The rules:

1.  `manifest.json` names every file of the directory but itself and the signature, with its
    SHA-256. A file that is missing, changed, or there without being named is refused. Python's
    `__pycache__` is passed over: Triton's Python backend makes one beside the model.
2.  `manifest.sig` is an Ed25519 signature over the bytes of `manifest.json`, in hexadecimal. With
    a public key the signature is demanded, and is looked at before the manifest is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from clickpath.errors import ConfigError, ModelMismatch

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "manifest.sig"


class _Manifest(BaseModel):
    """The content of `manifest.json`: digests by path within the directory."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    files: dict[str, str]


def write_manifest(directory: Path, private_key: Ed25519PrivateKey | None = None) -> None:
    """Writes the manifest of a directory, and its signature when there is a key.

    Args:
        directory: Holds every file of the version.
        private_key: Signs; without one an older signature is removed.
    """
    files = {name: _digest(directory / name) for name in _names(directory)}
    manifest = _Manifest(files=files)
    text = (json.dumps(manifest.model_dump(), indent=2, sort_keys=True) + "\n").encode()
    (directory / MANIFEST_FILE).write_bytes(text)
    if private_key is None:
        (directory / SIGNATURE_FILE).unlink(missing_ok=True)
    else:
        signature = private_key.sign(text).hex()
        (directory / SIGNATURE_FILE).write_text(signature + "\n", encoding="ascii")


def check_manifest(directory: Path, public_key: Ed25519PublicKey | None = None) -> None:
    """Checks that a directory holds just what its manifest says.

    Args:
        directory: Of the version.
        public_key: Must have signed the manifest; None asks for no signature.

    Raises:
        ModelMismatch: It does not; names the file, and both digests where there are two.
    """
    text = _read(directory / MANIFEST_FILE)
    if public_key is not None:
        _check_signature(directory, text, public_key)
    try:
        expected = _Manifest.model_validate_json(text).files
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ModelMismatch(
            f"{directory / MANIFEST_FILE} is no manifest: {place}: {first['msg']}"
        ) from error
    there = set(_names(directory))
    for name in sorted(there - expected.keys()):
        raise ModelMismatch(f"{directory / name} is not in the manifest beside it")
    for name, digest in sorted(expected.items()):
        if name not in there:
            raise ModelMismatch(f"{directory / name} is missing, but is in the manifest beside it")
        found = _digest(directory / name)
        if found != digest:
            raise ModelMismatch(
                f"{directory / name} has digest {found[:16]}, its manifest says {digest[:16]}"
            )


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The key that signs manifests, from an unencrypted PEM file.

    Raises:
        ConfigError: The file cannot be read, or is no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read_key(path)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no private key as unencrypted PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds a {type(key).__name__}, expected an Ed25519 key")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The key whose signature manifests must have, from a PEM file.

    Raises:
        ConfigError: The file cannot be read, or is no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = _read_key(path)
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise ConfigError(f"{path} holds no public key as PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} holds a {type(key).__name__}, expected an Ed25519 key")
    return key


def signed_by(public_key: Ed25519PublicKey, signature: str, text: bytes) -> bool:
    """Whether hexadecimal digits are a key's signature over some bytes."""
    from cryptography.exceptions import InvalidSignature

    try:
        public_key.verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _check_signature(directory: Path, text: bytes, public_key: Ed25519PublicKey) -> None:
    path = directory / SIGNATURE_FILE
    if not path.exists():
        raise ModelMismatch(
            f"{directory} is not signed, and a key is configured: there is no {path.name}"
        )
    signature = _read(path).decode("ascii", errors="replace").strip()
    if not signed_by(public_key, signature, text):
        raise ModelMismatch(
            f"{path} is no signature of the manifest by the configured key: {signature[:16]!r}"
        )


def _names(directory: Path) -> Iterator[str]:
    """The files that a manifest names, by their paths within the directory."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if (
            path.is_file()
            and "__pycache__" not in name.parts
            and name.as_posix() not in (MANIFEST_FILE, SIGNATURE_FILE)
        ):
            yield name.as_posix()


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelMismatch(f"cannot read {path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelMismatch(f"cannot read {path}: {error.strerror}") from error


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error.strerror}") from error
