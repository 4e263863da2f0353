"""Faust's aiokafka driver, with the consumer in the application's own loop and batch topics.

The stock driver runs the consumer in a second thread and pays a hop for each call; here nothing
may block the loop instead. Batch topics bypass Faust's fetch loop, acknowledgements and seeks;
they belong to the `Group`, which the rebalance callbacks below open and close.
"""

# ruff: noqa: SLF001 - what aiokafka and Faust keep private and the engine needs is used here
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

import aiokafka
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async

from stream.batch.group import Group
from stream.clients import Consumer, Producer

if TYPE_CHECKING:
    from stream.batch.app import BatchApp

logger = logging.getLogger(__name__)


# Time between two looks at how far the partitions' ends are.
_LOOK_S = 1.0


class InLoopConsumer(driver.AIOKafkaConsumerThread):
    """Faust's consumer "thread", without the thread."""

    logger = driver.logger
    mundane_level = "debug"
    wait_for_shutdown = False

    async def start(self) -> None:
        """Starts the client in this loop."""
        await Service.start(self)

    async def maybe_start(self) -> bool:
        """Starts it unless it was started."""
        return bool(await Service.maybe_start(self))

    async def stop(self) -> None:
        """Stops the client and leaves the group."""
        await Service.stop(self)

    async def on_stop(self) -> None:
        """Stops the client."""
        if self._consumer is None:
            return
        try:
            await _leave_first_generation(self._consumer._coordinator)
            await self._consumer.stop()
        finally:
            await cast("BatchApp", self.app).batch_group.end()

    def close(self) -> None:
        """Drops out of a rebalance that comes in the midst of a stop.

        Faust would mark the client as stopped, so that `on_stop` left it as it is: what it fetches
        would connect anew, for good.
        """
        if self._consumer is not None:
            self._consumer.drop_out()

    async def crash(self, reason: BaseException) -> None:
        """Crashes the consumer and with it the worker."""
        await Service.crash(self, reason)

    def set_shutdown(self) -> None:
        """Notes that it is down."""
        Service.set_shutdown(self)

    def _stopped_set(self) -> None:
        Service._stopped_set(self)

    async def _stop_children(self) -> None:
        await self._default_stop_children()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def _stop_exit_stacks(self) -> None:
        await self._default_stop_exit_stacks()

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kw: Any) -> Any:
        """Calls it right here."""
        return await maybe_async(fun(*args, **kw))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Passes a rebalance on."""
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Passes a rebalance on."""
        await self.consumer.on_partitions_assigned(assigned, generation_id)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        app = cast("BatchApp", self.app)
        conf = app.conf
        # Always Faust's assignor: it is sticky and keeps topics with one number of partitions
        # together, which aiokafka's round robin does not.
        self._assignor = app.assignor
        consumer = Consumer(
            **app.consumer_settings(),
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            # What a transaction did that was aborted never happened.
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            # The driver's own 1500 lets a long poll on idle partitions hold up the others.
            fetch_max_wait_ms=app.fetch_wait_ms,
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
        )
        app.batch_group.attach(consumer)
        return consumer


async def _leave_first_generation(coordinator: Any) -> None:
    """Leaves a group of generation 0, which aiokafka takes for no generation and stays in.

    Apache Kafka counts from 1, the embedded broker from 0; whoever joins next would have to wait
    for the session timeout.
    """
    if coordinator.generation == 0 and coordinator._group_instance_id is None:
        with suppress(KafkaError):
            await coordinator._send_req(
                LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            )


class BatchConsumer(driver.Consumer):
    """Faust's consumer for all topics but the batch topics, which it keeps away from them."""

    logger = driver.logger
    mundane_level = "debug"
    _thread: InLoopConsumer

    def _new_consumer_thread(self) -> InLoopConsumer:
        return InLoopConsumer(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)

    @property
    def _group(self) -> Group:
        return cast("BatchApp", self.app).batch_group

    def _others(self, partitions: Iterable[TP]) -> set[TP]:
        return {each for each in partitions if not self._group.owns(each.topic)}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finishes and commits what is in hand, then gives the partitions up."""
        self._group.close()
        try:
            # Commits through `wait_empty` as long as the worker is a member.
            await super().on_partitions_revoked(revoked)
        finally:
            self._group.revoke()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Takes the partitions over."""
        await super().on_partitions_assigned(assigned, generation_id)
        if not self.app.should_stop:
            self._group.assign(assigned, self.app.assignor.assigned_standbys())

    async def perform_seek(self) -> None:
        """Seeks to the committed offsets; batch topics know better where they stand."""
        others = [TopicPartition(*each) for each in self._others(self.assignment())]
        if not others:
            return
        offsets = await self._thread._ensure_consumer().seek_to_committed(*others)
        for partition, offset in offsets.items():
            tp = TP(partition.topic, partition.partition)
            known = offset is not None and offset >= 0
            self._read_offset[tp] = offset if known else None
            if known:
                self._committed_offset[tp] = offset or None

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - the name is Faust's
        if active_partitions is None:
            return await super()._getmany(active_partitions, timeout)
        others = self._others(active_partitions)
        if not others:
            # Nothing but batch topics: wait here until the flow changes, as a fetch would.
            await self.wait_first(self.suspend_flow.wait(), timeout=timeout)
            return {}
        return await super()._getmany(others, timeout)

    async def wait_empty(self) -> None:
        """Hands out nothing more, waits for what is in hand and commits it."""
        app = cast("BatchApp", self.app)
        self._group.close()
        begun = time.monotonic()
        await self._group.quiesce(app.finish_timeout_s)
        left = max(1.0, app.finish_timeout_s - (time.monotonic() - begun))
        try:
            async with asyncio.timeout(left):
                await app.committer.commit()
        except TimeoutError:
            logger.error("gave up a commit after %.0f s; its records will come again", left)
        if self._unacked_messages:
            await super().wait_empty()
        else:
            await super().commit()

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits batch topics with their state, then the others."""
        done = await cast("BatchApp", self.app).committer.commit()
        return bool(await super().commit(topics, start_new_transaction)) or done

    @Service.task
    async def _follow_standbys(self) -> None:
        await self._group.standbys.run()

    @Service.task
    async def _look_at_ends(self) -> None:
        async for _ in self.itertimer(_LOOK_S, name="ends"):
            await self._group.look_at_ends()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Looks for stalls that Faust can see; batch topics have their own progress record."""
        if not self._group.owns(tp.topic):
            super().verify_event_path(now, tp)


class BatchProducer(driver.Producer):
    """Faust's producer, whose client also takes whole batches."""

    logger = driver.logger
    mundane_level = "debug"

    @property
    def client(self) -> aiokafka.AIOKafkaProducer:
        """The aiokafka producer; there is one once the worker started."""
        return self._ensure_producer()

    @property
    def _producer_type(self) -> type[aiokafka.AIOKafkaProducer]:
        return Producer

    def _settings_extra(self) -> Mapping[str, Any]:
        app = cast("BatchApp", self.app)
        return {**app.connection.client_arguments(), "enable_idempotence": app.idempotent}


class BatchTransport(driver.Transport):
    """Kafka for applications with batch topics."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    Producer: ClassVar[type[BatchProducer]] = BatchProducer
