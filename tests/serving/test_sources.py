"""One suite for every place that versions come from: the worker's own folder, and Triton."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
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
from clickpath.errors import ModelMismatch, PredictorUnavailable
from serving.embedded import EmbeddedPredictor
from serving.local_server.server import LocalServer
from serving.manifest import read_private_key
from serving.repository.config import ServingPlan
from serving.repository.folder import TritonFolder
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.source import TritonSource
from serving.versions import EmbeddedSource, ModelSource, VersionFolder, Versions
from tests.serving.conftest import twin_of, write_tiny_model

MakePath = Callable[..., "array[int]"]


@dataclass(frozen=True)
class Site:
    """Versions, and what loads them.

    Attributes:
        versions: They.
        add: Adds the model in a directory, signed where a key is given; its version.
        source: Makes what loads them for an encoder.
    """

    versions: Versions
    add: Callable[[Path, Path | None], str]
    source: Callable[[Encoder], ModelSource]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public one."""
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def models(tmp_path: Path, encoder: Encoder) -> list[Path]:
    """Two models with the same scores."""
    (tmp_path / "model").mkdir()
    model = write_tiny_model(tmp_path / "model", encoder)
    return [model, twin_of(model, tmp_path / "twin")]


@pytest.fixture(params=["own folder", pytest.param("Triton", marks=pytest.mark.triton)])
def open_site(
    request: pytest.FixtureRequest, tmp_path: Path, models: list[Path]
) -> Iterator[Callable[[Path | None], Site]]:
    """Opens a place of versions, with a public key that must have signed them or without."""
    repository, servers = tmp_path / "repository", list[LocalServer]()

    def own(public: Path | None) -> Site:
        folder = VersionFolder(repository, public)
        return Site(folder, folder.put, lambda encoder: EmbeddedSource(folder, encoder))

    def on_triton(public: Path | None) -> Site:
        folder, plan = TritonFolder(repository, "clickpath", public), ServingPlan(backend="python")

        def add(model: Path, private: Path | None) -> str:
            key = None if private is None else read_private_key(private)
            return add_version(repository, model, plan, private_key=key).card.digest

        def source(encoder: Encoder) -> TritonSource:
            if not servers:
                servers.append(LocalServer(repository, ["clickpath"]).start())
            return TritonSource(Address(url=servers[0].url), folder, encoder)

        return Site(folder, add, source)

    if request.param == "Triton":
        request.getfixturevalue("tritonserver")
        yield on_triton
    else:
        yield own
    for server in servers:
        server.stop()


@pytest.fixture
async def source_of(open_site: object) -> AsyncIterator[Callable[[Site, Encoder], ModelSource]]:
    """Makes sources that are closed at the end."""
    made: list[ModelSource] = []

    def make(site: Site, encoder: Encoder) -> ModelSource:
        made.append(site.source(encoder))
        return made[-1]

    yield make
    for each in made:
        await each.close()


OpenSite = Callable[[Path | None], Site]
SourceOf = Callable[[Site, Encoder], ModelSource]


async def test_versions_are_loaded_by_their_digests_and_give_the_scores_of_their_models(
    open_site: OpenSite,
    source_of: SourceOf,
    models: list[Path],
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    site = open_site(None)
    old, new = (site.add(model, None) for model in models)
    site.versions.keep([old, new])
    source = source_of(site, encoder)
    alone = EmbeddedPredictor(models[0], encoder)
    paths = [make_path(n, seed=n) for n in (1, 9, 50)]
    expected = await alone.predict(paths, 30)
    await alone.close()
    assert site.versions.versions() == [old, new]

    first, second = await source.load(old), await source.load(new)
    assert (first.digest, second.digest) == (old, new)
    for predictor in (first, second):
        given = await predictor.predict(paths, 30)
        assert [each.purchase for each in given] == pytest.approx(
            [each.purchase for each in expected], abs=1e-4
        )
    # The other one stays, and the closed one can be had again.
    await first.close()
    assert len(await second.predict(paths, 30)) == 3
    with pytest.raises(PredictorUnavailable):
        await first.predict(paths, 30)
    again = await source.load(old)
    assert len(await again.predict(paths, 30)) == 3
    await again.close()
    await second.close()


async def test_a_version_that_is_nowhere_is_one_sentence(
    open_site: OpenSite, source_of: SourceOf, models: list[Path], encoder: Encoder
) -> None:
    site = open_site(None)
    site.add(models[0], None)
    with pytest.raises(ModelMismatch, match=f"there is no version {'0' * 16} in the repository"):
        await source_of(site, encoder).load("0" * 16)


@pytest.mark.parametrize("file", ["model.onnx", "card.json", "more.bin"])
async def test_a_version_that_was_changed_is_not_loaded(
    open_site: OpenSite,
    source_of: SourceOf,
    models: list[Path],
    encoder: Encoder,
    file: str,
) -> None:
    site = open_site(None)
    version = site.add(models[0], None)
    source = source_of(site, encoder)
    with (site.versions.directory(version) / file).open("ab") as changed:
        changed.write(b" ")
    with pytest.raises(ModelMismatch, match=file.replace(".", r"\.")):
        await source.load(version)


async def test_with_a_key_a_signature_is_demanded(
    open_site: OpenSite,
    source_of: SourceOf,
    models: list[Path],
    keys: tuple[Path, Path],
    encoder: Encoder,
) -> None:
    site = open_site(keys[1])
    signed = site.add(models[0], keys[0])
    source = source_of(site, encoder)
    predictor = await source.load(signed)
    await predictor.close()
    (site.versions.directory(signed) / "manifest.sig").unlink()
    with pytest.raises(ModelMismatch, match=r"is not signed.* no manifest\.sig"):
        await source.load(signed)


async def test_a_version_for_another_encoder_is_refused_with_both_values(
    open_site: OpenSite, source_of: SourceOf, models: list[Path], encoder: Encoder
) -> None:
    other = Encoder(replace(encoder.window, session_gap_ms=1))
    site = open_site(None)
    version = site.add(models[0], None)
    with pytest.raises(ModelMismatch, match=f"{encoder.fingerprint}.*{other.fingerprint}"):
        await source_of(site, other).load(version)
