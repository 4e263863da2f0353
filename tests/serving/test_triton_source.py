"""Versions on a real tritonserver: what a worker is told when server and repository do not fit."""

from __future__ import annotations

import asyncio
import shutil
import signal
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError, ModelMismatch, PredictorError, PredictorUnavailable
from serving.local_server.server import LocalServer, ServerError
from serving.manifest import read_private_key, read_public_key
from serving.repository.config import ServingPlan
from serving.repository.folder import TritonFolder
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.predictor import connect
from serving.triton.source import TritonSource
from tests.serving.conftest import twin_of, write_tiny_model
from tests.serving.proxy import Proxy
from tests.serving.test_sources import keys  # noqa: F401

pytestmark = pytest.mark.triton

MakePath = Callable[..., "array[int]"]

PLAN = ServingPlan(backend="python", versions=1)


@pytest.fixture
def models(tmp_path: Path, encoder: Encoder) -> list[Path]:
    """Four models with the same scores."""
    (tmp_path / "model").mkdir()
    model = write_tiny_model(tmp_path / "model", encoder)
    return [model, *(twin_of(model, tmp_path / name, name) for name in ("b", "c", "d"))]


@pytest.fixture
def repository(tmp_path: Path, models: list[Path]) -> Path:
    """A repository with the first model."""
    add_version(tmp_path / "repository", models[0], PLAN)
    return tmp_path / "repository"


@pytest.fixture
def server(tritonserver: None, repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository, ["clickpath"]) as started:
        yield started


def source_at(url: str, repository: Path, encoder: Encoder, **files: Path) -> TritonSource:
    return TritonSource(Address(url=url, **files), TritonFolder(repository, "clickpath"), encoder)


def added(repository: Path, *models: Path) -> list[str]:
    """The digests of new versions, which nobody has promoted."""
    return [add_version(repository, model, PLAN).card.digest for model in models]


def ready(server: LocalServer, number: int) -> bool:
    with triton.InferenceServerClient(server.url) as client:
        return bool(client.is_model_ready("clickpath", str(number)))


async def test_a_rollout_keeps_its_versions_loaded_whatever_else_is_exported(
    server: LocalServer, repository: Path, models: list[Path], encoder: Encoder
) -> None:
    folder, source = (
        TritonFolder(repository, "clickpath"),
        source_at(server.url, repository, encoder),
    )
    champion = folder.first()
    old = await source.load(champion)
    candidate, other, _ = added(repository, *models[1:])
    folder.keep([champion, candidate])
    new = await source.load(candidate)
    assert [ready(server, n) for n in (1, 2, 3, 4)] == [True, True, False, False]

    # The next one is tried beside the candidate, which has become the champion.
    folder.keep([candidate, other, champion])
    await (await source.load(other)).close()
    assert [ready(server, n) for n in (1, 2, 3, 4)] == [True, True, True, False]
    folder.keep([candidate, other])
    server.stop()
    server.start()
    assert [ready(server, n) for n in (1, 2, 3, 4)] == [False, True, True, False]
    for each in (old, new):
        await each.close()
    await source.close()


async def test_while_versions_come_and_go_the_one_at_work_answers_every_call(
    server: LocalServer,
    repository: Path,
    models: list[Path],
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    folder, source = (
        TritonFolder(repository, "clickpath"),
        source_at(server.url, repository, encoder),
    )
    champion, paths = await source.load(folder.first()), [make_path(n) for n in range(1, 33)]
    done, answered, failed = asyncio.Event(), 0, list[str]()

    async def ask() -> None:
        nonlocal answered
        while not done.is_set():
            try:
                answered += len(await champion.predict(paths, 60))
            except PredictorError as error:
                failed.append(str(error))

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    for version in added(repository, *models[1:]):
        before = answered
        folder.keep([folder.first(), version])
        await (await source.load(version)).close()
        async with asyncio.timeout(60):
            while answered < before + 320:  # noqa: ASYNC110 - the askers tell nobody
                await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*asking)
    await champion.close()
    await source.close()
    assert failed == []
    assert champion.digest == folder.first()


async def test_all_versions_are_asked_over_one_connection(
    server: LocalServer,
    repository: Path,
    models: list[Path],
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    [candidate] = added(repository, models[1])
    folder = TritonFolder(repository, "clickpath")
    folder.keep([folder.first(), candidate])
    with Proxy(server.url) as proxy:
        source = source_at(proxy.url, repository, encoder)
        both = [await source.load(each) for each in (folder.first(), candidate)]
        looked = proxy.connections
        for _ in range(10):
            await asyncio.gather(*(each.predict([make_path(7)], 30) for each in both))
        assert proxy.connections == looked
        for each in both:
            await each.close()
        await source.close()


# ------------------------------------------------------------------------- what does not fit


async def test_a_version_that_the_configuration_does_not_name_is_one_sentence(
    server: LocalServer, repository: Path, models: list[Path], encoder: Encoder
) -> None:
    candidate, _ = added(repository, *models[1:3])
    TritonFolder(repository, "clickpath").keep([TritonFolder(repository, "clickpath").first()])
    source = source_at(server.url, repository, encoder)
    with pytest.raises(
        PredictorUnavailable, match=r"does not serve version 2 .* names the version"
    ):
        await source.load(candidate)
    await source.close()


async def test_a_server_with_another_repository_is_refused_with_both_digests(
    server: LocalServer, repository: Path, models: list[Path], encoder: Encoder, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    shutil.copytree(repository, ours)
    [theirs] = added(repository, models[1])
    [mine] = added(ours, models[2])
    source = source_at(server.url, ours, encoder)
    with pytest.raises(ModelMismatch, match=f"differ in version 2 .*digest {theirs} and {mine}"):
        await source.load(mine)
    await source.close()


async def test_a_version_that_triton_refuses_to_load_leaves_the_others_and_says_why(
    server: LocalServer,
    repository: Path,
    models: list[Path],
    encoder: Encoder,
    make_path: MakePath,
    tmp_path: Path,
) -> None:
    ours, folder = tmp_path / "ours", TritonFolder(repository, "clickpath")
    [candidate] = added(repository, models[1])
    folder.keep([folder.first(), candidate])
    shutil.copytree(repository, ours)
    # Changed after the worker has looked.
    graph = repository / "clickpath" / "2" / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"0")
    source = source_at(server.url, ours, encoder)
    champion = await source.load(folder.first())
    with pytest.raises(PredictorUnavailable, match=r"model\.onnx has digest"):
        await source.load(candidate)
    assert len(await champion.predict([make_path(5)], 30)) == 1
    await champion.close()

    server.stop()
    with pytest.raises(ServerError, match=r"model\.onnx has digest"):
        server.start()
    await source.close()


async def test_a_server_that_is_killed_during_a_load_is_one_sentence_and_loads_it_when_it_is_back(
    server: LocalServer, repository: Path, models: list[Path], encoder: Encoder
) -> None:
    [candidate] = added(repository, models[1])
    with Proxy(server.url) as proxy:
        source = source_at(proxy.url, repository, encoder)
        loading = asyncio.create_task(source.load(candidate))
        async with asyncio.timeout(60):
            while "loading: clickpath:2" not in server.log():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        server.signal(signal.SIGKILL)
        server.stop()
        with pytest.raises(PredictorUnavailable, match="Triton at"):
            await loading
        with pytest.raises(PredictorUnavailable, match="does not answer"):
            await source.load(candidate)
        server.start()
        await (await source.load(candidate)).close()
        await source.close()


async def test_a_wrong_admin_key_is_one_sentence(
    tritonserver: None, repository: Path, encoder: Encoder, tmp_path: Path
) -> None:
    key, wrong = tmp_path / "key", tmp_path / "wrong"
    key.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    restricted = "--grpc-restricted-protocol=model-repository,model-config:admin-key=open sesame"
    version = TritonFolder(repository, "clickpath").first()
    with LocalServer(repository, ["clickpath"], arguments=[restricted]) as server:
        for files in ({}, {"admin_key_file": wrong}):
            source = source_at(server.url, repository, encoder, **files)
            with pytest.raises(ConfigError, match="refuses the admin key"):
                await source.load(version)
            await source.close()
        source = source_at(server.url, repository, encoder, admin_key_file=key)
        await (await source.load(version)).close()
        await source.close()


# ----------------------------------------------------------------------------- several servers


async def test_every_server_behind_a_name_loads_a_version_and_one_that_is_away_is_passed_over(
    server: LocalServer,
    repository: Path,
    models: list[Path],
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    folder = TritonFolder(repository, "clickpath")
    candidate, other = added(repository, *models[1:3])
    with ExitStack() as stack:
        second = stack.enter_context(LocalServer(repository, ["clickpath"]))
        source = source_at(f"ipv4:{server.url},{second.url}", repository, encoder)
        folder.keep([folder.first(), candidate])
        predictor = await source.load(candidate)
        assert ready(server, 2)
        assert ready(second, 2)
        second.stop()
        folder.keep([candidate, other])
        newest = await source.load(other)
        assert len(await newest.predict([make_path(5)], 30)) == 1
        for each in (predictor, newest):
            await each.close()
        await source.close()


async def test_a_server_that_has_lost_a_version_is_given_it_again(
    server: LocalServer, repository: Path, encoder: Encoder, make_path: MakePath
) -> None:
    source = source_at(server.url, repository, encoder)
    predictor = await source.load(TritonFolder(repository, "clickpath").first())
    with triton.InferenceServerClient(server.url) as client:
        client.unload_model("clickpath")
    failed, answered = 0, 0
    async with asyncio.timeout(60):
        while not (failed and answered):
            try:
                answered = len(await predictor.predict([make_path(5)], 5))
            except PredictorUnavailable:
                failed += 1
                await asyncio.sleep(0.01)
    await predictor.close()
    await source.close()


@pytest.mark.parametrize(("given", "name"), [(None, "localhost"), ("triton.test", "triton.test")])
def test_a_name_stands_for_all_its_servers_and_their_certificate_is_for_it(
    tmp_path: Path, given: str | None, name: str
) -> None:
    one, two = Address(url="ipv4:10.0.0.1:8001,10.0.0.2:8001").servers()
    assert (one.target, two.target) == ("ipv4:10.0.0.1:8001", "ipv4:10.0.0.2:8001")
    ca = tmp_path / "ca.pem"
    ca.touch()
    for each in Address(url="localhost:8001", ca_file=ca, name=given).servers():
        assert each.name == name
        assert each.url in ("127.0.0.1:8001", "[::1]:8001")


# ---------------------------------------------------------------------------------- signatures


def test_a_predictor_with_a_key_asks_only_a_version_whose_fingerprints_are_signed(
    tritonserver: None,
    tmp_path: Path,
    models: list[Path],
    encoder: Encoder,
    keys: tuple[Path, Path],  # noqa: F811
) -> None:
    private, public = read_private_key(keys[0]), read_public_key(keys[1])
    for name, key in (("signed", private), ("unsigned", None)):
        add_version(tmp_path / name, models[0], PLAN, private_key=key)
    add_version(tmp_path / "signed", models[1], PLAN)
    with (
        LocalServer(tmp_path / "signed", ["clickpath"]) as signed,
        LocalServer(tmp_path / "unsigned", ["clickpath"]) as unsigned,
    ):
        address = Address(url=signed.url)
        assert connect(address, encoder, version=1, public_key=public).version == 1
        for url, version in ((signed.url, 2), (unsigned.url, 1)):
            with pytest.raises(ModelMismatch, match="the configured key has not signed"):
                connect(Address(url=url), encoder, version=version, public_key=public)
