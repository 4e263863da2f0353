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


#: Runs a test with versions that each worker runs itself, and with Triton; its fixture is `site`.
on_triton_too = pytest.mark.parametrize(
    "site", ["own folder", pytest.param("Triton", marks=pytest.mark.triton)], indirect=True
)

#: The former in every delivery, the latter in one; fixtures `broker_kind`, `delivery` and `site`.
in_every_delivery_and_on_triton = pytest.mark.parametrize(
    ("broker_kind", "delivery", "site"),
    [
        ("embedded", "at-least-once", "own folder"),
        pytest.param("apache-kafka", "at-least-once", "own folder", marks=pytest.mark.kafka),
        pytest.param("apache-kafka", "transactional", "own folder", marks=pytest.mark.kafka),
        pytest.param("embedded", "at-least-once", "Triton", marks=pytest.mark.triton),
    ],
    indirect=["broker_kind", "site"],
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
