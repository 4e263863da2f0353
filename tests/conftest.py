"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clickpath.errors import UsageError
from serving.local_server.environment import server_environment
from tests.kafka.apache import ApacheKafka
from tests.kafka.marks import started_or_skipped

REPOSITORY = Path(__file__).resolve().parent.parent

# A slow machine is no reason to fail: what is drawn is the same on every one.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real click logs, or a skip with the reason."""
    folder = Path(os.environ.get("CLICKPATH_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real click logs: {folder} is absent (set CLICKPATH_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka]:
    """A real Apache Kafka for the whole session, or a skip; tests use topics of their own."""
    yield from started_or_skipped()


@pytest.fixture(scope="session")
def tritonserver() -> None:
    """Sees to it that a real tritonserver can be started, or skips with the reason."""
    try:
        server_environment()
    except UsageError as error:
        pytest.skip(f"no tritonserver: {error}")
