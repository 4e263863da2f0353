"""An embedded broker for all tests of the worker."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
async def job(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Job:
    """Topics and a group that carry the test's name."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:100]
    job = Job(broker.bootstrap_servers, name)
    topics = {job.topic: TopicSpec(partitions=PARTITIONS), job.out: TopicSpec(partitions=2)}
    topics[job.changelog] = TopicSpec(partitions=PARTITIONS, config={"cleanup.policy": "compact"})
    await create_topics(Connection(job.servers), topics)
    return job
