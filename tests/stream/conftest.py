"""An embedded broker for all tests of the worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.connection import Connection
from tests.stream.counting import PARTITIONS, Job


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """A broker on a free port, for the whole session; tests use topics of their own."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def store_kind(request: pytest.FixtureRequest) -> str:
    """Where workers keep their states: "memory", unless `on_both_stores` says otherwise."""
    return getattr(request, "param", "memory")


@pytest.fixture
async def job(
    broker: EmbeddedBroker, store_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Job:
    """Topics and a group that carry the test's name."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:100]
    job = Job(broker.bootstrap_servers, name, None if store_kind == "memory" else tmp_path)
    topics = {job.topic: TopicSpec(partitions=PARTITIONS), job.out: TopicSpec(partitions=2)}
    topics[job.changelog] = TopicSpec(partitions=PARTITIONS, config={"cleanup.policy": "compact"})
    await create_topics(Connection(job.servers), topics)
    return job
