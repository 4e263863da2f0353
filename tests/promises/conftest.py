"""A shop on real parts for each test: a broker, worker processes, and what lies on the topics.

The broker is the embedded one, and Apache Kafka too where a module says `on_both_brokers`. The
number of events is set by the variable PROVE_EVENTS; the defaults keep a test run short.
"""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clickpath.logs import RawLine
from stream.broker import EmbeddedBroker
from stream.process import WorkerProcess
from tests.promises.shop import Oracle, Shop, lines_of, names_of_its_own

if TYPE_CHECKING:
    from tests.promises.collector import Collector
    from tests.promises.versions import Site


@pytest.fixture
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which broker a shop is on: "embedded", unless `on_both_brokers` says otherwise."""
    return getattr(request, "param", "embedded")


@pytest.fixture
def prove_events(broker_kind: str) -> int:
    return int(os.environ.get("PROVE_EVENTS", "20000" if broker_kind == "embedded" else "3000"))


@pytest.fixture
def to_lines():  # type: ignore[no-untyped-def]
    """Clicks as the records that a producer sends."""
    return lines_of


@pytest.fixture
def oracle():  # type: ignore[no-untyped-def]
    """What one process without a broker makes of records, under the settings of a shop."""

    async def replay(shop: Shop, lines: Iterable[RawLine]) -> Oracle:
        return await Oracle(shop.settings).replay(lines)

    return replay


@pytest.fixture
def make_shop(  # type: ignore[no-untyped-def]
    tmp_path: Path, broker_kind: str, request: pytest.FixtureRequest
):
    """Makes a shop on an empty broker, or with topics of its own; settings by their variables."""
    brokers: list[EmbeddedBroker] = []

    async def make(**settings: str) -> Shop:
        environ = {f"CLICKPATH_{name.upper()}": value for name, value in settings.items()}
        if broker_kind == "embedded":
            brokers.append(broker := EmbeddedBroker())
            broker.start()
        else:
            broker = request.getfixturevalue("apache_kafka")
            environ |= names_of_its_own()
        # A slow machine must not change what is decided: the fallback has tests of its own.
        environ.setdefault("CLICKPATH_PREDICT_DEADLINE_S", "60")
        environ.setdefault("CLICKPATH_MODEL", os.environ.get("PROVE_MODEL", "shipped"))
        shop = Shop(broker.bootstrap_servers, tmp_path, environ)
        await shop.create_topics()
        return shop

    yield make
    for broker in brokers:
        broker.stop()


@pytest.fixture
async def running(make_shop) -> AsyncIterator[object]:  # type: ignore[no-untyped-def]
    """Starts a worker in a shop, and ends it whatever happens."""
    workers: list[WorkerProcess] = []

    async def start(shop: Shop) -> WorkerProcess:
        worker = shop.worker()
        workers.append(worker)
        await worker.start()
        await worker.wait_ready(120)
        return worker

    yield start
    for worker in workers:
        await worker.kill()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["Site"]:
    """Where the versions of the model are: each worker runs them itself, or a tritonserver does."""
    # Only now: torch takes seconds to import, and most promises need none.
    from tests.promises.versions import on_triton, own_folder

    if request.param == "Triton":
        request.getfixturevalue("tritonserver")
    kinds = {"own folder": own_folder, "Triton": on_triton}
    with kinds[request.param](tmp_path / "versions") as opened:
        yield opened


@pytest.fixture
def collector() -> Iterator["Collector"]:
    """A collector of traces that runs."""
    from tests.promises.collector import Collector

    collector = Collector()
    collector.start()
    yield collector
    collector.stop()


@pytest.fixture
def embedded() -> Iterator[str]:
    """The address of an embedded broker without topics."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers
