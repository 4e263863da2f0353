"""Marks for tests that run on more than one broker."""

import pytest

#: Runs a test on the embedded broker and on Apache Kafka; its fixture is `broker_kind`.
on_both_brokers = pytest.mark.parametrize(
    "broker_kind",
    ["embedded", pytest.param("apache-kafka", marks=pytest.mark.kafka)],
    indirect=True,
)
