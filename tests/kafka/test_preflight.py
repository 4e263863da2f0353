"""A set-up that would lose states, or cannot keep its promise, is refused before the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream.batch.group import ChangelogMismatch
from stream.batch.preflight import NoTransactions, check_broker
from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.connection import Connection
from tests.kafka.marks import on_both_brokers
from tests.stream.counting import Job, counting_app


@pytest.fixture
def servers(request: pytest.FixtureRequest, broker_kind: str) -> str:
    if broker_kind == "embedded":
        return request.getfixturevalue("embedded").bootstrap_servers
    return request.getfixturevalue("apache_kafka").bootstrap_servers


@pytest.fixture
def broker_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def embedded():  # type: ignore[no-untyped-def]
    with EmbeddedBroker() as running:
        yield running


@on_both_brokers
async def test_a_changelog_that_is_not_compacted_is_refused_with_what_to_do(servers: str) -> None:
    job = Job(servers, "not-compacted")
    # As a broker makes it that creates topics by itself.
    await create_topics(Connection(servers), {job.changelog: TopicSpec(partitions=4)})
    with pytest.raises(ChangelogMismatch, match=r"cleanup\.policy=delete.*set it to compact"):
        await check_broker(counting_app(job).app)


@on_both_brokers
async def test_a_changelog_that_does_not_exist_is_refused_and_not_made(servers: str) -> None:
    job = Job(servers, "absent")
    for _ in range(2):
        with pytest.raises(ChangelogMismatch, match="absent-users-changelog does not exist"):
            await check_broker(counting_app(job).app)


@on_both_brokers
async def test_a_compacted_changelog_is_accepted(servers: str) -> None:
    job = Job(servers, "compacted")
    spec = TopicSpec(partitions=4, config={"cleanup.policy": "compact"})
    await create_topics(Connection(servers), {job.changelog: spec})
    await check_broker(counting_app(job).app)


async def test_transactions_are_refused_on_a_broker_without_them(embedded: EmbeddedBroker) -> None:
    job = Job(embedded.bootstrap_servers, "refused")
    with pytest.raises(NoTransactions, match="has no transactions"):
        await check_broker(counting_app(job, transactional=True).app)


def test_the_worker_says_so_in_one_sentence_and_ends(
    embedded: EmbeddedBroker, repository: Path
) -> None:
    brokers = ["--bootstrap-servers", embedded.bootstrap_servers]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "clickpath",
            "worker",
            "--model",
            "none",
            "--web-port",
            "0",
            *brokers,
        ],
        cwd=repository,
        env={**os.environ, "CLICKPATH_DELIVERY": "transactional"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("clickpath: the broker at 127.0.0.1")
    assert done.stderr.count("\n") == 1


@pytest.mark.kafka
async def test_transactions_are_accepted_on_apache_kafka(job: Job) -> None:
    await check_broker(counting_app(job, transactional=True).app)
