"""The predictor on a real tritonserver: each thing that can go wrong, and the way back."""

from __future__ import annotations

import asyncio
import shutil
import signal
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickpath.encoding import Encoder
from clickpath.errors import (
    ClickpathError,
    ConfigError,
    ModelMismatch,
    PredictorOverloaded,
    PredictorTimeout,
    PredictorUnavailable,
)
from serving.card import read_card, write_card
from serving.local_server.server import LocalServer, ServerError
from serving.repository.config import ServingPlan
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.answers import Meaning
from serving.triton.channel import Channel
from serving.triton.client import CallFailed, Slot, VersionClient, loaded_version
from serving.triton.predictor import TritonPredictor, Tuning, connect
from tests.serving.proxy import Proxy

pytestmark = pytest.mark.triton

MakePath = Callable[..., "array[int]"]

#: A path with this slowness keeps the tiny model busy for some tenths of a second.
SLOW = 200_000

#: And with this one for seconds, whatever the machine.
VERY_SLOW = 10 * SLOW


@asynccontextmanager
async def asking(url: str, encoder: Encoder, **options: Any) -> AsyncIterator[TritonPredictor]:
    given = {name: options.pop(name) for name in ("version",) if name in options}
    predictor = connect(Address(url=url), encoder, wait_s=5.0, tuning=Tuning(**options), **given)
    try:
        yield predictor
    finally:
        await predictor.close()


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory, model_directory: Path) -> Path:
    """A repository with the tiny model, free to be changed."""
    folder = tmp_path_factory.mktemp("repository")
    add_version(folder, model_directory, ServingPlan(backend="python"))
    return folder


@pytest.fixture
def narrow(
    tritonserver: None, tmp_path_factory: pytest.TempPathFactory, model_directory: Path
) -> Iterator[LocalServer]:
    """One instance, two places in the queue, and little patience in it."""
    folder = tmp_path_factory.mktemp("repository")
    plan = ServingPlan(
        backend="python", instances=1, max_queue=2, queue_timeout_ms=100, max_batch=2
    )
    add_version(folder, model_directory, plan)
    with LocalServer(folder, ["clickpath"]) as server:
        yield server


# ------------------------------------------------------------------------------- at the start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 7}, "does not serve version 7 of the model clickpath"),
        ({"model": "other"}, "does not serve any version of the model other"),
    ],
)
def test_a_version_that_is_not_served_is_one_sentence(
    tiny_triton: LocalServer, encoder: Encoder, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PredictorUnavailable, match=message):
        connect(Address(url=tiny_triton.url), encoder, wait_s=0.1, **options)


def test_a_server_that_is_not_there_is_one_sentence(encoder: Encoder) -> None:
    with pytest.raises(
        PredictorUnavailable, match=r"Triton at 127\.0\.0\.1:1 does not serve any version"
    ):
        connect(Address(url="127.0.0.1:1"), encoder, wait_s=0.1)


def test_a_version_of_another_encoder_is_refused_with_both_values(
    tiny_triton: LocalServer, encoder: Encoder
) -> None:
    from dataclasses import replace

    other = Encoder(replace(encoder.window, session_gap_ms=1))

    with pytest.raises(ModelMismatch, match=f"{encoder.fingerprint}.*{other.fingerprint}"):
        connect(Address(url=tiny_triton.url), other)


async def test_the_newest_version_is_taken_or_the_one_that_is_asked_for(
    tritonserver: None, repository: Path, model_directory: Path, encoder: Encoder
) -> None:
    write_card(read_card(model_directory).model_copy(update={"name": "second"}), model_directory)
    add_version(repository, model_directory, ServingPlan(backend="python"))
    with LocalServer(repository, ["clickpath"]) as server:
        async with (
            asking(server.url, encoder) as newest,
            asking(server.url, encoder, version=1) as first,
        ):
            assert (newest.version, first.version) == (2, 1)
            assert newest.digest == read_card(model_directory).digest


def test_a_version_that_was_changed_is_not_loaded(tritonserver: None, repository: Path) -> None:
    with (repository / "clickpath" / "1" / "model.onnx").open("ab") as model:
        model.write(b"0")

    with pytest.raises(ServerError, match=r"model\.onnx has digest [0-9a-f]{16}, its manifest"):
        LocalServer(repository, ["clickpath"]).start()


# ---------------------------------------------------------------------------------- the calls


async def test_batches_are_cut_to_what_the_model_takes(
    tritonserver: None,
    tmp_path_factory: pytest.TempPathFactory,
    model_directory: Path,
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    folder = tmp_path_factory.mktemp("repository")
    add_version(folder, model_directory, ServingPlan(backend="python", max_batch=5))
    with LocalServer(folder, ["clickpath"]) as server:
        async with asking(server.url, encoder) as predictor:
            scores = await predictor.predict([make_path(5, seed=n) for n in range(23)], 30)

            assert len(scores) == 23
            assert predictor.call_counts().calls == {"ok": 5}  # 5 + 5 + 5 + 5 + 3


async def test_all_calls_go_over_one_connection(
    tiny_triton: LocalServer, encoder: Encoder, make_path: MakePath
) -> None:
    with Proxy(tiny_triton.url) as proxy:
        async with asking(proxy.url, encoder) as predictor:
            looked = proxy.connections
            for _ in range(10):
                await asyncio.gather(*(predictor.predict([make_path(n)], 30) for n in range(1, 6)))

        assert proxy.connections == looked + 1


async def test_calls_go_to_all_servers_behind_one_name(
    tiny_triton: LocalServer, encoder: Encoder, make_path: MakePath
) -> None:
    with Proxy(tiny_triton.url) as one, Proxy(tiny_triton.url) as two:
        async with asking(f"ipv4:{one.url},{two.url}", encoder) as predictor:
            before = one.passed_bytes, two.passed_bytes
            passed = (0, 0)
            # The second connection may come some calls after the first one.
            async with asyncio.timeout(60):
                while min(passed) < 5 * 4_800:  # a call is two rows of 2,400 bytes and its head
                    await predictor.predict([make_path(50)], 30)
                    passed = one.passed_bytes - before[0], two.passed_bytes - before[1]


async def test_a_call_that_takes_too_long_is_a_timeout_and_the_next_one_is_answered(
    tiny_triton: LocalServer, encoder: Encoder, make_path: MakePath
) -> None:
    async with asking(tiny_triton.url, encoder) as predictor:
        with pytest.raises(PredictorTimeout):
            await predictor.predict([make_path(5, slowness=VERY_SLOW)], deadline_s=0.05)

        assert len(await predictor.predict([make_path(5)], deadline_s=60)) == 1
        assert predictor.call_counts().calls.keys() <= {"ok", "deadline", "cancelled"}
        assert predictor.call_counts().calls.total() == 2


async def test_a_full_queue_is_overload_and_is_not_asked_again(
    narrow: LocalServer, encoder: Encoder, make_path: MakePath
) -> None:
    async with asking(narrow.url, encoder, in_flight=8, threshold=100) as predictor:
        calls = [predictor.predict([make_path(5, slowness=SLOW)], 30) for _ in range(8)]
        answers = await asyncio.gather(*calls, return_exceptions=True)

        overloaded = [each for each in answers if isinstance(each, PredictorOverloaded)]
        assert overloaded
        assert "Exceeds maximum queue size" in str(overloaded[0])
        counts = predictor.call_counts()
        assert counts.calls["overload"] == len(overloaded)
        assert (counts.calls.total(), counts.retries) == (8, 0)


async def test_a_call_that_waits_too_long_in_the_queue_is_a_timeout(
    tritonserver: None,
    tmp_path_factory: pytest.TempPathFactory,
    model_directory: Path,
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    folder = tmp_path_factory.mktemp("repository")
    plan = ServingPlan(backend="python", instances=1, queue_timeout_ms=50, max_batch=2)
    add_version(folder, model_directory, plan)
    with LocalServer(folder, ["clickpath"]) as server:
        async with asking(server.url, encoder, in_flight=8, threshold=100) as predictor:
            calls = [predictor.predict([make_path(5, slowness=SLOW)], 60) for _ in range(8)]
            answers = await asyncio.gather(*calls, return_exceptions=True)

            late = [each for each in answers if isinstance(each, PredictorTimeout)]
            assert {str(each).rpartition("] ")[2].rpartition(": ")[2] for each in late} == {
                "Request timeout expired"
            }
            assert predictor.call_counts().calls == Counter(
                queue_timeout=len(late), ok=len(calls) - len(late)
            )


async def test_a_wrong_shape_is_a_bad_question(tiny_triton: LocalServer) -> None:
    address = Address(url=tiny_triton.url)
    loaded = loaded_version(address, "clickpath", 0, wait_s=5)
    client = VersionClient(Channel(address), "clickpath", loaded)
    with pytest.raises(CallFailed, match="unexpected shape") as failed:
        await client.infer(Slot(["purchase"]), np.ones((2, 5, 8), dtype=np.int64), 10)
    await client.close()

    assert failed.value.meaning is Meaning.BAD_INPUT


async def test_a_graph_that_fails_is_unavailable(
    tiny_triton: LocalServer, encoder: Encoder, make_path: MakePath
) -> None:
    path = make_path(5)
    path[0] = 99  # no such action: a table has no such row

    async with asking(tiny_triton.url, encoder) as predictor:
        with pytest.raises(PredictorUnavailable, match="99"):
            await predictor.predict([path], 30)


async def test_a_connection_that_breaks_in_a_call_is_made_anew_and_the_call_sent_once_more(
    tiny_triton: LocalServer, encoder: Encoder, make_path: MakePath
) -> None:
    with Proxy(tiny_triton.url) as proxy:
        async with asking(proxy.url, encoder) as predictor:
            await predictor.predict([make_path(5)], 30)
            passed = proxy.passed_bytes
            call = asyncio.ensure_future(predictor.predict([make_path(5, slowness=VERY_SLOW)], 60))
            async with asyncio.timeout(30):
                while proxy.passed_bytes < passed + 768:  # noqa: ASYNC110 - two rows on their way
                    await asyncio.sleep(0.001)
            proxy.cut()

            assert len(await call) == 1
            counts = predictor.call_counts()
            assert counts.retries == counts.calls["no_connection"] >= 1


# ------------------------------------------------------------------------- gone and back again


async def back(predictor: TritonPredictor, path: array[int]) -> None:
    """Asks until there are scores again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await predictor.predict([path], 5)
            except PredictorUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_server_that_was_killed_is_left_alone_and_found_again(
    tritonserver: None, repository: Path, encoder: Encoder, make_path: MakePath
) -> None:
    server = LocalServer(repository, ["clickpath"]).start()
    try:
        async with asking(server.url, encoder, pause_s=5.0) as predictor:
            before = await predictor.predict([make_path(7)], 30)
            server.signal(signal.SIGKILL)
            server.stop()
            for _ in range(3):
                with pytest.raises(PredictorUnavailable):
                    await predictor.predict([make_path(7)], 5)
            assert predictor.call_counts().breaker == "opened"
            sent = predictor.call_counts().calls.total()
            for _ in range(1_000):
                with pytest.raises(PredictorUnavailable, match="is left alone for a while"):
                    await predictor.predict([make_path(7)], 5)
            assert predictor.call_counts().calls.total() == sent
            assert predictor.call_counts().refused == 1_000

            server.start()
            await back(predictor, make_path(7))

            assert predictor.call_counts().breaker == "closed"
            assert await predictor.predict([make_path(7)], 30) == before
    finally:
        server.stop()


async def test_another_model_behind_the_same_number_is_not_asked(
    tritonserver: None,
    repository: Path,
    model_directory: Path,
    encoder: Encoder,
    make_path: MakePath,
) -> None:
    server = LocalServer(repository, ["clickpath"]).start()
    try:
        async with asking(server.url, encoder, pause_s=0.05, threshold=1) as predictor:
            server.stop()
            shutil.rmtree(repository / "clickpath")
            other = read_card(model_directory).model_copy(update={"encoder": "0" * 16})
            write_card(other, model_directory)
            add_version(repository, model_directory, ServingPlan(backend="python"))
            with pytest.raises(PredictorUnavailable):
                await predictor.predict([make_path(7)], 5)
            server.start()
            loaded_before = server.served()["nv_inference_request_success"]
            async with asyncio.timeout(60):
                while predictor.call_counts().refused < 200:
                    with pytest.raises(PredictorUnavailable):
                        await predictor.predict([make_path(7)], 5)
                    await asyncio.sleep(0.005)

            assert predictor.call_counts().breaker == "opened"
            assert server.served()["nv_inference_request_success"] == loaded_before
    finally:
        server.stop()


# ---------------------------------------------------------------------------- keys and addresses


def test_an_admin_key_that_is_wrong_or_missing_is_one_sentence(
    tritonserver: None, repository: Path, encoder: Encoder, tmp_path: Path
) -> None:
    key, wrong = tmp_path / "key", tmp_path / "wrong"
    key.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    restricted = "--grpc-restricted-protocol=model-repository,model-config:admin-key=open sesame"
    with LocalServer(repository, ["clickpath"], arguments=[restricted]) as server:
        for address in (
            Address(url=server.url),
            Address(url=server.url, admin_key_file=wrong),
        ):
            with pytest.raises(ConfigError, match="refuses the admin key"):
                connect(address, encoder, wait_s=0.1)
        assert connect(Address(url=server.url, admin_key_file=key), encoder).version == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca_file": "missing.pem"}, r"cannot read missing\.pem, which Triton is reached with"),
        ({"admin_key_file": "missing"}, "cannot read missing"),
        ({"cert_file": "c.pem"}, "needs both, its file and its key's"),
        ({"cert_file": "c.pem", "key_file": "k.pem"}, "needs the file of the CA as well"),
        ({"name": "triton.test"}, "for 'triton.test', but without the file of the CA"),
    ],
)
def test_files_that_are_of_no_use_are_refused_at_once(files: dict[str, str], message: str) -> None:
    given = {key: of if key == "name" else Path(of) for key, of in files.items()}
    with pytest.raises(ClickpathError, match=message):
        Address(url="h:1", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["", "triton", "http://triton:8001", "a b:1", "triton:port", ":1"])
def test_what_is_no_host_and_port_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="is no host:port of Triton's gRPC"):
        Address(url=url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("triton:8001", "dns:///triton:8001"),
        ("[::1]:8001", "dns:///[::1]:8001"),
        ("dns:///triton.models:8001", "dns:///triton.models:8001"),
        ("ipv4:10.0.0.1:8001,10.0.0.2:8001", "ipv4:10.0.0.1:8001,10.0.0.2:8001"),
    ],
)
def test_a_name_is_resolved_to_all_its_addresses(url: str, target: str) -> None:
    assert Address(url=url).target == target
