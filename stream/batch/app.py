"""The application: Faust's, with batch topics, their tables and their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faust.app.base import logger as faust_logger
from faust.tables.manager import TableManager
from yarl import URL

from stream.batch.agent import BatchAgent, BatchStream, BatchTopic
from stream.batch.assignor import StandbyAssignor
from stream.batch.commit import Committer, HeldOutputs
from stream.batch.group import Group
from stream.batch.outputs import Outputs
from stream.batch.progress import BatchProgress
from stream.batch.source import Source
from stream.batch.table import KeyedTable
from stream.batch.transactions import Transactions
from stream.batch.transport import BatchProducer, BatchTransport
from stream.batch.view import Store
from stream.clients import Consumer, Producer
from stream.connection import Connection

V = TypeVar("V")


class _Tables(TableManager):
    """Faust's own tables; without any, a start need not wait a second for them."""

    mundane_level = "debug"

    async def sleep(self, n: Any) -> None:
        if self:
            await super().sleep(n)


class BatchApp(faust.App):
    """A Faust application whose topics may be batch topics; see `batch_app`.

    Attributes:
        connection: The brokers.
        progress: What its batch topics are doing.
        outputs: Sends records to the partition of a chunk.
        committer: Commits batch topics; called by the worker every commit interval.
        batch_group: The batch topics in the consumer group.
    """

    logger = faust_logger
    mundane_level = "debug"

    def __init__(
        self,
        *args: Any,
        connection: Connection,
        chunk_records: int,
        record_limit_bytes: int,
        fetch_wait_ms: int,
        finish_timeout_s: float,
        idempotent: bool,
        transactional: bool,
        states: Store | None,
        **kwargs: Any,
    ) -> None:
        self.connection = connection
        self.fetch_wait_ms = fetch_wait_ms
        self.finish_timeout_s = finish_timeout_s
        self.idempotent = idempotent
        self._chunk_records = chunk_records
        self.transactional = transactional
        self._states = states
        self.progress = BatchProgress()
        self.batch_group = Group(
            progress=self.progress,
            producer=self._aiokafka_producer,
            changelog_consumer=self.plain_consumer,
            transactions=self._new_transactions(record_limit_bytes) if transactional else None,
        )
        direct = Outputs(self._aiokafka_producer, record_limit_bytes=record_limit_bytes)
        self.committer = Committer(self.batch_group, direct)
        self.outputs: Outputs = direct
        if transactional:
            self.outputs = HeldOutputs(
                self._aiokafka_producer,
                self.batch_group,
                self.committer,
                record_limit_bytes=record_limit_bytes,
            )
        super().__init__(*args, **kwargs)

    def topic(self, *topics: str, batch: bool = False, **kwargs: Any) -> Any:
        """Describes a topic; with `batch=True` its one agent is given chunks.

        Raises:
            ValueError: A batch topic of more than one name, or with a name taken before, or a
                second one beside transactions.
        """
        if not batch:
            return super().topic(*topics, **kwargs)
        if len(topics) != 1:
            raise ValueError(f"a batch topic has one name, not {len(topics)}")
        name = topics[0]
        if self.transactional and self.batch_group.sources:
            raise ValueError("an application with transactions has one batch topic")
        if name in self.batch_group.sources:
            raise ValueError(f"the batch topic {name} exists already")
        self.batch_group.sources[name] = Source(
            name,
            group=self.batch_group,
            progress=self.progress,
            chunk_records=self._chunk_records,
        )
        return BatchTopic(self, topics=list(topics), **kwargs)

    def agent(self, channel: Any = None, *, name: str | None = None, **kwargs: Any) -> Any:
        """Makes an agent of an async function.

        Raises:
            ValueError: An agent of a batch topic without a name, or with a concurrency: one of
                several actors could acknowledge past a chunk that another one lost.
        """
        if isinstance(channel, BatchTopic) and (name is None or kwargs.get("concurrency", 1) != 1):
            raise ValueError("the agent of a batch topic has a name and a concurrency of 1")
        return super().agent(channel, name=name, **kwargs)

    def keyed_table(
        self,
        name: str,
        *,
        source: BatchTopic,
        dumps: Callable[[V], bytes],
        loads: Callable[[bytes], V],
        changelog: str | None = None,
    ) -> KeyedTable[V]:
        """Makes a table whose partitions follow those of a batch topic.

        Args:
            name: Its name.
            source: The batch topic whose chunks write to it.
            dumps: Makes bytes of a value; values are immutable.
            loads: Makes a value of bytes.
            changelog: Its compacted topic with as many partitions as the source;
                `<application>-<name>-changelog` if not given.
        """
        table: KeyedTable[V] = KeyedTable(
            name,
            source=source.get_topic_name(),
            changelog=changelog or f"{self.conf.id}-{name}-changelog",
            dumps=dumps,
            loads=loads,
            check=source.source.check,
            store=self._states,
        )
        source.source.tables.append(table)
        return table

    def batch_source(self, topic: str) -> Source:
        """The pull side of a batch topic."""
        return self.batch_group.sources[topic]

    @property
    def crash_event(self) -> Any:
        """Is set when the application, or something below it, has crashed."""
        return self._crashed

    def consumer_settings(self) -> Mapping[str, Any]:
        """What every consumer is made with."""
        return {**self.client_settings(), **self.connection.consumer_arguments()}

    def client_settings(self) -> Mapping[str, Any]:
        """What every client of the broker is made with: addresses, identity, credentials."""
        conf = self.conf
        return {
            **self.connection.client_arguments(),
            "client_id": conf.broker_client_id,
            "request_timeout_ms": int(conf.broker_request_timeout * 1000),
            "metadata_max_age_ms": conf.consumer_metadata_max_age_ms,
            "connections_max_idle_ms": conf.consumer_connections_max_idle_ms,
        }

    def _aiokafka_producer(self) -> AIOKafkaProducer:
        return cast(BatchProducer, self.producer).client

    def transactional_producer(self, transactional_id: str) -> AIOKafkaProducer:
        """Makes an unstarted producer for transactions; ids begin with the application's."""
        conf = self.conf
        return Producer(
            **self.client_settings(),
            transactional_id=f"{conf.id}-{transactional_id}",
            linger_ms=int(conf.producer_linger * 1000),
            max_batch_size=conf.producer_max_batch_size,
            max_request_size=conf.producer_max_request_size,
            compression_type=conf.producer_compression_type,
        )

    def _new_transactions(self, record_limit_bytes: int) -> Transactions:
        return Transactions(
            self.transactional_producer,
            group_id=lambda: self.conf.id,
            record_limit_bytes=record_limit_bytes,
        )

    def plain_producer(self) -> AIOKafkaProducer:
        """Makes an unstarted producer for records that belong to no chunk."""
        return Producer(**self.client_settings(), acks="all")

    def plain_consumer(self, auto_offset_reset: str = "earliest") -> AIOKafkaConsumer:
        """Makes an unstarted consumer without a group, to read topics from their beginning."""
        return Consumer(
            **self.consumer_settings(),
            enable_auto_commit=False,
            auto_offset_reset=auto_offset_reset,
            # What is left of a transaction that was aborted never happened, in any mode.
            isolation_level="read_committed",
            max_partition_fetch_bytes=self.conf.consumer_max_fetch_size,
            fetch_max_wait_ms=self.fetch_wait_ms,
        )

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Faust keeps nothing on disk."""


def batch_app(
    id: str,  # noqa: A002 - Faust's word for it
    *,
    connection: Connection,
    commit_interval_s: float = 1.0,
    session_timeout_s: float = 30.0,
    instance_id: str | None = None,
    rebalance_timeout_s: float = 60.0,
    max_poll_interval_s: float = 300.0,
    request_timeout_s: float = 30.0,
    chunk_records: int = 1_000,
    fetch_bytes: int = 1 << 20,
    fetch_wait_ms: int = 100,
    send_batch_bytes: int = 256 << 10,
    record_limit_bytes: int = 1_000_000,
    compression: str | None = None,
    idempotent: bool = False,
    transactional: bool = False,
    store: Store | None = None,
    standby_replicas: int = 0,
    **faust_settings: Any,
) -> BatchApp:
    """Makes an application; nothing connects before it is started (see `worker.run_app`).

    Args:
        id: The consumer group, and the prefix of changelog topics.
        connection: The brokers.
        commit_interval_s: Time between commits of states and offsets.
        session_timeout_s: Silence after which the group gives a worker's partitions away.
        instance_id: Name of this member for static membership: it does not leave when it stops, and
            comes back without a rebalance within the session timeout.
        rebalance_timeout_s: How long a rebalance waits for a worker to finish its chunk.
        max_poll_interval_s: How long an agent may keep a chunk before the worker leaves the group.
        request_timeout_s: How long a request to the broker, and a send with its retries, may take.
        chunk_records: The most records of a chunk.
        fetch_bytes: The most bytes fetched of a partition at once.
        fetch_wait_ms: How long the broker may hold back the answer to a fetch without records.
        send_batch_bytes: Size at which outputs are split into another batch.
        record_limit_bytes: The largest output record; not above what the topics allow.
        compression: None, "gzip", "snappy", "lz4" or "zstd"; all but gzip need cramjam.
        idempotent: Keep the broker from storing a batch twice when an answer got lost.
        transactional: Commit outputs, states and offsets in transactions; outputs leave with the
            commit then. The broker has to know transactions.
        store: Where the values of tables are kept; in memory if not given.
        standby_replicas: How many other workers follow the changelogs of a partition.
        faust_settings: Further settings of Faust; they win over those made here.
    """
    return BatchApp(
        id,
        connection=connection,
        chunk_records=chunk_records,
        record_limit_bytes=record_limit_bytes,
        fetch_wait_ms=fetch_wait_ms,
        # Leaves the group some of the rebalance timeout for the joining itself.
        finish_timeout_s=rebalance_timeout_s * 0.7,
        idempotent=idempotent,
        transactional=transactional,
        states=store,
        **{
            "broker": [URL(f"kafka://{each}") for each in connection.servers],
            "broker_commit_interval": commit_interval_s,
            "broker_session_timeout": session_timeout_s,
            "consumer_group_instance_id": instance_id,
            "broker_heartbeat_interval": min(3.0, session_timeout_s / 3),
            "broker_rebalance_timeout": rebalance_timeout_s,
            "broker_max_poll_interval": max_poll_interval_s,
            "broker_max_poll_records": chunk_records,
            "broker_request_timeout": max(request_timeout_s, session_timeout_s + 1),
            "consumer_auto_offset_reset": "earliest",
            "consumer_max_fetch_size": fetch_bytes,
            "producer_acks": -1,
            "producer_linger": 0.005,
            "producer_max_batch_size": send_batch_bytes,
            "producer_max_request_size": record_limit_bytes + send_batch_bytes,
            "producer_compression_type": compression,
            "producer_request_timeout": request_timeout_s,
            "stream_wait_empty": True,
            "stream_recovery_delay": 0.0,
            "table_standby_replicas": standby_replicas,
            **({"PartitionAssignor": StandbyAssignor} if standby_replicas else {}),
            "topic_disable_leader": True,
            "topic_allow_declare": False,
            "web_enabled": False,
            "worker_redirect_stdouts": False,
            "store": "memory://",
            "Agent": BatchAgent,
            "Stream": BatchStream,
            "TableManager": _Tables,
            **faust_settings,
        },
    )
