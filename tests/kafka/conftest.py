"""A counting job on Apache Kafka."""

from __future__ import annotations

import re

import pytest

from stream.broker import TopicSpec, create_topics
from stream.connection import Connection
from tests.kafka.apache import ApacheKafka
from tests.stream.counting import PARTITIONS, Job


@pytest.fixture
async def job(apache_kafka: ApacheKafka, request: pytest.FixtureRequest) -> Job:
    """Topics and a group that carry the test's name."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:100]
    job = Job(apache_kafka.bootstrap_servers, name)
    topics = {job.topic: TopicSpec(partitions=PARTITIONS), job.out: TopicSpec(partitions=2)}
    topics[job.changelog] = TopicSpec(partitions=PARTITIONS, config={"cleanup.policy": "compact"})
    await create_topics(Connection(job.servers), topics)
    return job
