"""The manifest of a model version: what it lets pass and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as other_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from clickpath.errors import ConfigError, ModelMismatch
from serving.manifest import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    check_manifest,
    read_private_key,
    read_public_key,
    write_manifest,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "card.json").write_bytes(b"{}")
    write_manifest(tmp_path, KEY)
    return tmp_path


def test_what_was_written_passes_with_and_without_the_key(version: Path) -> None:
    check_manifest(version)
    check_manifest(version, KEY.public_key())


def test_every_file_is_named_with_its_digest(version: Path) -> None:
    manifest = json.loads((version / MANIFEST_FILE).read_bytes())

    assert manifest["format"] == 1
    assert manifest["files"].keys() == {"model.onnx", "notes/card.json"}
    assert manifest["files"]["model.onnx"] == (
        "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    )


def changed(version: Path) -> None:
    (version / "model.onnx").write_bytes(b"weightz")


def removed(version: Path) -> None:
    (version / "notes" / "card.json").unlink()


def added(version: Path) -> None:
    (version / "model.py").write_bytes(b"import os")


def emptied(version: Path) -> None:
    (version / MANIFEST_FILE).write_bytes(b"")


def of_another_form(version: Path) -> None:
    (version / MANIFEST_FILE).write_text(json.dumps({"format": 2, "files": {}}))


def without_manifest(version: Path) -> None:
    (version / MANIFEST_FILE).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed, r"model\.onnx has digest [0-9a-f]{16}, its manifest says 9a129038d9a00aed"),
        (removed, r"notes/card\.json is missing, but is in the manifest"),
        (added, r"model\.py is not in the manifest"),
        (emptied, r"manifest\.json is no manifest"),
        (of_another_form, r"manifest\.json is no manifest: format"),
        (without_manifest, r"cannot read .*manifest\.json"),
    ],
)
def test_a_directory_that_is_not_what_its_manifest_says_is_refused_with_the_file(
    version: Path, change: Callable[[Path], None], message: str
) -> None:
    change(version)

    with pytest.raises(ModelMismatch, match=message):
        check_manifest(version)


def test_what_python_compiled_beside_the_model_does_not_matter(version: Path) -> None:
    (version / "__pycache__").mkdir()
    (version / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"compiled")

    check_manifest(version, KEY.public_key())


def test_a_manifest_that_another_key_signed_is_refused(version: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"manifest\.sig is no signature"):
        check_manifest(version, OTHER_KEY.public_key())


@pytest.mark.parametrize("signature", ["", "00", "no hexadecimal", "ff" * 64])
def test_a_signature_that_is_none_is_refused(version: Path, signature: str) -> None:
    (version / SIGNATURE_FILE).write_text(signature)

    check_manifest(version)
    with pytest.raises(ModelMismatch, match=r"manifest\.sig is no signature"):
        check_manifest(version, KEY.public_key())


def test_with_a_key_an_unsigned_manifest_is_refused_and_a_new_one_drops_the_old_signature(
    version: Path,
) -> None:
    write_manifest(version)

    check_manifest(version)
    with pytest.raises(ModelMismatch, match=r"is not signed.* no manifest\.sig"):
        check_manifest(version, KEY.public_key())


def test_keys_are_read_from_pem_files(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    assert read_private_key(private).sign(b"x") == KEY.sign(b"x")
    read_public_key(public).verify(KEY.sign(b"x"), b"x")


@pytest.mark.parametrize("read", [read_private_key, read_public_key])
def test_a_file_that_is_no_ed25519_key_is_refused_with_its_name(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match=r"cannot read the key .*key\.pem"):
        read(path)
    path.write_bytes(b"no key")
    with pytest.raises(ConfigError, match=r"key\.pem holds no p"):
        read(path)
    other = other_key(SECP256R1())
    path.write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        if read is read_private_key
        else other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ConfigError, match="expected an Ed25519 key"):
        read(path)
