"""Rules of clients: whatever becomes of a start or a stop, no connection is left open."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.clients import Admin, Consumer, Producer
from stream.connection import Connection
from stream.refusals import started, stopped
from tests.stream.counting import PATIENCE_S, until

pytestmark = pytest.mark.broker

each_client = pytest.mark.parametrize("make", [Consumer, Producer, Admin])


@asynccontextmanager
async def nothing_left_open() -> AsyncIterator[None]:
    """Fails if a task goes on, or the garbage collector finds an open connection."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        yield
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "all tasks ended", 10)
        gc.collect()
    assert [str(each.message) for each in said] == []


def connected(client: Any) -> AIOKafkaClient:
    """What holds a client's connections."""
    found: AIOKafkaClient = client.client if isinstance(client, Producer) else client._client
    return found


@asynccontextmanager
async def silent_after_its_first_answer(
    broker: EmbeddedBroker, asked: asyncio.Event
) -> AsyncIterator[Connection]:
    """A broker that tells its versions and then says nothing; sets `asked` at the next question."""
    busy: list[asyncio.Task[None] | None] = []
    host, _, port = broker.bootstrap_servers.partition(":")

    async def frame(reader: asyncio.StreamReader) -> bytes:
        size = await reader.readexactly(4)
        return size + await reader.readexactly(struct.unpack(">i", size)[0])

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.append(asyncio.current_task())
        ask, tell = await asyncio.open_connection(host, int(port))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            tell.write(await frame(reader))
            writer.write(await frame(ask))
            await frame(reader)
            asked.set()
            await frame(reader)
        for each in (tell, writer):
            each.close()
            with suppress(ConnectionError):
                await each.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield Connection(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await asyncio.gather(*filter(None, busy))


@each_client
async def test_a_cancelled_start_leaves_nothing_open(
    broker: EmbeddedBroker, make: Callable[..., Any]
) -> None:
    asked = asyncio.Event()

    async def use(connection: Connection) -> None:
        async with started(make(**connection.client_arguments()), connection):
            raise AssertionError("it has never had an answer")

    async with nothing_left_open(), silent_after_its_first_answer(broker, asked) as connection:
        using = asyncio.create_task(use(connection))
        await asyncio.wait_for(asked.wait(), 60)
        using.cancel()
        with pytest.raises(asyncio.CancelledError):
            await using


@each_client
async def test_a_client_that_is_stopped_as_soon_as_it_has_started_leaves_nothing(
    broker: EmbeddedBroker, make: Callable[..., Any]
) -> None:
    async with nothing_left_open():
        client = make(**broker.connection.client_arguments())
        await client.start()
        await stopped(client)
        del client


@each_client
async def test_a_client_that_is_stopped_while_it_starts_leaves_nothing(
    broker: EmbeddedBroker, make: Callable[..., Any]
) -> None:
    async with nothing_left_open():
        client = make(**broker.connection.client_arguments())
        starting = asyncio.create_task(client.start())
        await asyncio.sleep(0)
        await stopped(client)
        await starting
        del client


@each_client
async def test_a_stop_that_is_cancelled_leaves_nothing_open(
    broker: EmbeddedBroker, make: Callable[..., Any]
) -> None:
    async with nothing_left_open():
        client = make(**broker.connection.client_arguments())
        await client.start()
        assert await connected(client).ready(connected(client).get_random_node())
        stopping = asyncio.create_task(stopped(client))
        await asyncio.sleep(0)
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping
        del client, stopping


async def test_a_member_whose_stop_is_cancelled_while_it_joins_leaves_nothing_open(
    broker: EmbeddedBroker,
) -> None:
    """The embedded broker answers a join after half of the session timeout."""
    await create_topics(broker.connection, {"joined-in-vain": TopicSpec(partitions=1)})

    async def join_in_vain() -> None:
        consumer = Consumer(
            **broker.connection.client_arguments(), group_id="in-vain", session_timeout_ms=240_000
        )
        await consumer.start()
        consumer.subscribe(["joined-in-vain"])
        await until(lambda: consumer._coordinator._performed_join_prepare, "it joins")
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(stopping, PATIENCE_S)

    async with nothing_left_open():
        await join_in_vain()


@each_client
async def test_what_is_asked_of_a_client_that_has_stopped_fails_and_leaves_nothing_open(
    broker: EmbeddedBroker, make: Callable[..., Any]
) -> None:
    async with nothing_left_open():
        client = make(**broker.connection.client_arguments())
        await client.start()
        await stopped(client)
        holder = connected(client)
        with pytest.raises(KafkaConnectionError):
            await holder.send(holder.get_random_node(), MetadataRequest([]))
        del client, holder


async def test_a_consumer_that_waits_to_fetch_again_is_stopped_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with EmbeddedBroker() as broker:
        await create_topics(broker.connection, {"gone": TopicSpec(partitions=1)})
        consumer = Consumer(**broker.connection.client_arguments(), retry_backoff_ms=600_000)
        await consumer.start()
        consumer.assign([TopicPartition("gone", 0)])
        await consumer.seek_to_beginning()
        await until(lambda: bool(consumer._fetcher._in_flight), "it fetches")
    # The broker has gone.
    await until(lambda: "Failed fetch messages" in caplog.text, "the fetch has failed")
    await asyncio.wait_for(consumer.stop(), PATIENCE_S)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_connection_that_is_closed_is_broken_at_once(
    broker: EmbeddedBroker, run: Callable[..., None], turns: int
) -> None:
    """However many turns of the loop ago that was: aiokafka learns of it after a few."""

    async def ask() -> None:
        client = Admin(**broker.connection.client_arguments())
        await client.start()
        holder = connected(client)
        node = holder.get_random_node()
        assert await holder.ready(node)
        transport = holder._conns[node, ConnectionGroup.DEFAULT]._writer.transport
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as pipe:
            pipe.shutdown(socket.SHUT_WR)
        transport.write(b"into the broken pipe")
        for _ in range(turns):
            await asyncio.sleep(0)
        with suppress(KafkaConnectionError):
            await asyncio.wait_for(holder.send(node, MetadataRequest([])), PATIENCE_S)
        assert (await client.describe_cluster())["brokers"]
        await client.close()

    run(ask())
