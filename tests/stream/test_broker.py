"""Rules of the embedded broker and of making topics."""

from __future__ import annotations

import socket

import pytest

from stream.broker import BrokerError, EmbeddedBroker, TopicSpec, create_topics
from stream.connection import Connection

pytestmark = pytest.mark.broker


def test_a_stopped_broker_answers_no_more_and_can_be_started_again() -> None:
    broker = EmbeddedBroker()
    with broker:
        host, port = broker.bootstrap_servers.split(":")
        assert broker.running
    assert not broker.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1).close()
    broker.stop()
    with broker:
        assert broker.running


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port}"):
            EmbeddedBroker(port).start()


def test_a_broker_is_started_once(broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerError, match="runs already"):
        broker.start()
    assert broker.running


async def test_topics_that_exist_are_left_as_they_are(broker: EmbeddedBroker) -> None:
    wanted = {"made-once": TopicSpec(partitions=3), "made-later": TopicSpec(partitions=1)}
    first = {"made-once": wanted["made-once"]}
    servers = broker.bootstrap_servers
    assert await create_topics(Connection(servers), first) == ("made-once",)
    assert await create_topics(Connection(servers), wanted) == ("made-later",)
    assert await create_topics(Connection(servers), wanted) == ()
