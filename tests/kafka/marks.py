"""Marks and a fixture's body for tests that run on Apache Kafka."""

from collections.abc import Iterator

import pytest

from tests.kafka.apache import ApacheKafka, Missing

#: Runs a test on the embedded broker and on Apache Kafka; its fixture is `broker_kind`.
on_both_brokers = pytest.mark.parametrize(
    "broker_kind",
    ["embedded", pytest.param("apache-kafka", marks=pytest.mark.kafka)],
    indirect=True,
)

#: The same for each way of delivery that a broker has; fixtures `broker_kind` and `delivery`.
in_every_delivery = pytest.mark.parametrize(
    ("broker_kind", "delivery"),
    [
        ("embedded", "at-least-once"),
        pytest.param("apache-kafka", "at-least-once", marks=pytest.mark.kafka),
        pytest.param("apache-kafka", "transactional", marks=pytest.mark.kafka),
    ],
    indirect=["broker_kind"],
)


def started_or_skipped(broker: ApacheKafka | None = None) -> Iterator[ApacheKafka]:
    """A broker until the test is done with it, or a skip where it cannot be had."""
    broker = broker or ApacheKafka()
    try:
        broker.start()
    except Missing as error:
        pytest.skip(str(error))
    yield broker
    broker.stop()
