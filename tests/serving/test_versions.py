"""The model repository: complete versions only, each what its name and its manifest say."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError, ModelMismatch, UsageError
from serving.card import Card
from serving.versions import EmbeddedSource, VersionFolder


@pytest.fixture
def repository(tmp_path: Path) -> VersionFolder:
    return VersionFolder(tmp_path / "versions")


def test_a_version_is_named_by_its_digest_and_put_in_once(
    repository: VersionFolder, model_directory: Path, card: Card
) -> None:
    assert repository.put(model_directory) == card.digest
    assert repository.put(model_directory) == card.digest
    assert repository.versions() == [card.digest]
    directory, found = repository.checked(card.digest)
    assert directory.name == card.digest
    assert found == card


def test_what_is_not_of_a_model_is_left_out_and_nothing_lies_about(
    repository: VersionFolder, model_directory: Path, card: Card
) -> None:
    (model_directory / "examples").mkdir()
    (model_directory / "notes.txt").write_text("mine")
    repository.put(model_directory)
    assert [each.name for each in repository.folder.iterdir()] == [card.digest]
    names = {each.name for each in (repository.folder / card.digest).iterdir()}
    assert names == {"model.onnx", "card.json", "manifest.json"}


def test_a_directory_without_a_model_leaves_no_trace(
    repository: VersionFolder, tmp_path: Path
) -> None:
    with pytest.raises(ModelMismatch, match="no model card"):
        repository.put(tmp_path)
    assert not repository.folder.exists()


@pytest.mark.parametrize("file", ["model.onnx", "card.json", "more.bin"])
def test_a_version_that_was_changed_is_refused(
    repository: VersionFolder, model_directory: Path, card: Card, file: str
) -> None:
    repository.put(model_directory)
    with (repository.folder / card.digest / file).open("ab") as changed:
        changed.write(b" ")
    with pytest.raises(ModelMismatch, match=file):
        repository.checked(card.digest)


def test_a_version_under_another_ones_name_is_refused(
    repository: VersionFolder, model_directory: Path, card: Card
) -> None:
    repository.put(model_directory)
    other = "f" * 16
    (repository.folder / card.digest).rename(repository.folder / other)
    with pytest.raises(ModelMismatch, match=f"holds the model {card.digest}"):
        repository.checked(other)


@pytest.mark.parametrize("version", ["0" * 16, "../../etc", ""])
def test_a_version_that_is_not_there_is_one_sentence(
    repository: VersionFolder, version: str
) -> None:
    with pytest.raises(ModelMismatch, match="there is no version"):
        repository.checked(version)


def test_a_repository_that_is_not_there_cannot_be_listed(repository: VersionFolder) -> None:
    with pytest.raises(UsageError, match="cannot read the model repository"):
        repository.versions()


def test_a_signature_is_demanded_where_there_is_a_key(
    tmp_path: Path, model_directory: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    signed = VersionFolder(tmp_path / "signed", public)
    version = signed.put(model_directory, private)
    signed.checked(version)
    unsigned = VersionFolder(tmp_path / "unsigned", public)
    unsigned.put(model_directory)
    with pytest.raises(ModelMismatch, match=r"manifest\.sig"):
        unsigned.checked(version)
    with pytest.raises(ConfigError, match="nowhere"):
        VersionFolder(tmp_path, tmp_path / "nowhere")


async def test_a_version_is_loaded_from_the_repository_and_the_model_given_beside_it(
    repository: VersionFolder, model_directory: Path, card: Card, encoder: Encoder
) -> None:
    given = EmbeddedSource(repository, encoder, {card.digest: model_directory})
    predictor = await given.load(card.digest)
    assert predictor.digest == card.digest
    await predictor.close()
    with pytest.raises(ModelMismatch, match="there is no version"):
        await EmbeddedSource(repository, encoder).load(card.digest)
    repository.put(model_directory)
    predictor = await EmbeddedSource(repository, encoder).load(card.digest)
    await predictor.close()
