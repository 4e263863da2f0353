"""TLS on a real tritonserver, which asks for a certificate of ours as well: whose are taken.

The server's certificate is for names, as that of a headless service is, and for no address.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from clickpath.encoding import Encoder
from clickpath.errors import PredictorUnavailable
from serving.local_server.server import LocalServer
from serving.repository.config import ServingPlan
from serving.repository.folder import TritonFolder
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.predictor import connect
from serving.triton.source import TritonSource
from tests.serving.conftest import twin_of, write_tiny_model

pytestmark = pytest.mark.triton

MakePath = Callable[..., "array[int]"]
Reached = Callable[..., Address]

SERVICE = "triton.models.svc"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A repository with two versions, of which the second one is not served yet."""
    folder = tmp_path_factory.mktemp("repository")
    first = write_tiny_model(tmp_path_factory.mktemp("model"), encoder)
    plan = ServingPlan(backend="python", versions=1)
    champion = add_version(folder, first, plan).card.digest
    TritonFolder(folder, "clickpath").keep([champion])
    add_version(folder, twin_of(first, tmp_path_factory.mktemp("twins") / "twin"), plan)
    return folder


@pytest.fixture(scope="module")
def reached(
    tritonserver: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reached]:
    """Makes the address of a running server: at a host, by a CA and a client's certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    for whose in ("ours", "theirs"):
        ca = trustme.CA()
        ca.cert_pem.write_to_path(folder / f"{whose}-ca.pem")
        for side, names in (("server", (SERVICE, "localhost")), ("client", ("worker.test",))):
            made = ca.issue_cert(*names)
            made.private_key_pem.write_to_path(folder / f"{whose}-{side}-key.pem")
            made.cert_chain_pems[0].write_to_path(folder / f"{whose}-{side}.pem")
    arguments = [
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={folder / 'ours-server.pem'}",
        f"--grpc-server-key={folder / 'ours-server-key.pem'}",
        f"--grpc-root-cert={folder / 'ours-ca.pem'}",
    ]
    with LocalServer(repository, ["clickpath"], arguments=arguments) as server:
        port = server.url.rpartition(":")[2]

        def address(
            host: str, ca: str | None = "ours", client: str | None = "ours", name: str | None = None
        ) -> Address:
            return Address(
                url=f"{host}:{port}",
                ca_file=folder / f"{ca}-ca.pem" if ca else None,
                cert_file=folder / f"{client}-client.pem" if client else None,
                key_file=folder / f"{client}-client-key.pem" if client else None,
                name=name,
            )

        yield address


@pytest.mark.parametrize(
    ("host", "ca", "client", "name"),
    [
        pytest.param("localhost", None, None, None, id="plain text"),
        pytest.param("localhost", "ours", None, None, id="no client certificate"),
        pytest.param("localhost", "theirs", "ours", None, id="another CA than the server's"),
        pytest.param("localhost", "ours", "theirs", None, id="a client of another CA"),
        pytest.param("127.0.0.1", "ours", "ours", None, id="an address, not a name"),
        pytest.param("localhost", "ours", "ours", "shop.test", id="another name"),
    ],
)
def test_a_connection_on_which_one_side_cannot_show_who_it_is_gives_no_scores(
    reached: Reached,
    encoder: Encoder,
    host: str,
    ca: str | None,
    client: str | None,
    name: str | None,
) -> None:
    with pytest.raises(PredictorUnavailable, match="does not serve any version"):
        connect(reached(host, ca, client, name), encoder, wait_s=0.1)


@pytest.mark.parametrize(("host", "name"), [("localhost", None), ("127.0.0.1", SERVICE)])
async def test_a_certificate_is_taken_for_the_name_in_the_url_or_the_one_that_is_given(
    reached: Reached, encoder: Encoder, make_path: MakePath, host: str, name: str | None
) -> None:
    predictor = connect(reached(host, name=name), encoder)
    assert len(await predictor.predict([make_path(5)], 30)) == 1
    await predictor.close()


@pytest.mark.parametrize("name", [None, SERVICE])
async def test_each_server_behind_a_name_loads_a_version_though_its_certificate_has_no_address(
    reached: Reached, repository: Path, encoder: Encoder, make_path: MakePath, name: str | None
) -> None:
    folder = TritonFolder(repository, "clickpath")
    folder.keep(folder.versions())
    source = TritonSource(reached("localhost", name=name), folder, encoder)
    for version in folder.versions():
        predictor = await source.load(version)
        assert len(await predictor.predict([make_path(5)], 30)) == 1
        await predictor.close()
    await source.close()


async def test_a_server_with_another_name_loads_nothing_and_the_sentence_says_why(
    reached: Reached, repository: Path, encoder: Encoder
) -> None:
    folder = TritonFolder(repository, "clickpath")
    source = TritonSource(reached("localhost", name="shop.test"), folder, encoder)
    with pytest.raises(PredictorUnavailable, match=r"does not answer: .*Hostname"):
        await source.load(folder.first())
    await source.close()
