"""One shop: its settings and topics, its worker, and what one process makes of the same records."""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from clickpath.encoding import Encoder
from clickpath.events import Click
from clickpath.logs import RawLine
from clickpath.policy import KINDS
from clickpath.wire import click_to_json
from stream.broker import TopicSpec, create_topics
from stream.commands.arguments import wall_clock_ms
from stream.commands.state import users_on_changelog
from stream.process import WorkerProcess
from stream.producing import produce
from stream.reading import StoredRecord, read_topic
from stream.replay import InterventionsHash, Replay, hash_of_users
from stream.settings import Settings, load_settings
from stream.wiring import make_handler, make_predictor

PARTITIONS = 4


def lines_of(clicks: Iterable[Click]) -> list[RawLine]:
    return [RawLine(click.user_id.encode(), click_to_json(click), (), "") for click in clicks]


def names_of_its_own() -> dict[str, str]:
    """Settings that no other shop on the same broker has."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    return {
        "CLICKPATH_APP_ID": name,
        **{
            f"CLICKPATH_{topic.upper()}_TOPIC": f"{name}.{topic}"
            for topic in (
                "clicks",
                "decisions",
                "interventions",
                "dead_letter",
                "late",
                "models",
                "erasures",
            )
        },
    }


class Shop:
    """One installation with its worker, from an empty broker on."""

    def __init__(self, bootstrap_servers: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.settings: Settings = load_settings(environ, bootstrap_servers=bootstrap_servers)
        self._log = folder / "worker.log"
        self.environ = environ
        self.produced = 0

    def worker(self, more: Mapping[str, str] | None = None) -> WorkerProcess:
        environ = {**self.environ, **(more or {})}
        return WorkerProcess(self.settings.bootstrap_servers, self._log, environ)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def create_topics(self, replication: int = 1, **more: str) -> None:
        await create_topics(
            self.settings.connection,
            {
                name: TopicSpec(
                    partitions=PARTITIONS, config={**config, **more}, replication=replication
                )
                for name, config in self.settings.topics.configs().items()
            },
        )

    async def limit(self, topic: str, *, max_message_bytes: int) -> None:
        """Changes the largest size of a record of a topic."""
        admin = AIOKafkaAdminClient(**self.settings.connection.client_arguments())
        await admin.start()
        try:
            changed = {"max.message.bytes": str(max_message_bytes)}
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic, configs=changed)]
            )
        finally:
            await admin.close()

    async def produce(self, lines: Iterable[RawLine], events_per_s: float | None = None) -> None:
        self.produced += await produce(
            lines,
            self.settings.connection,
            self.settings.clicks_topic,
            events_per_s=events_per_s,
        )

    async def committed(self) -> int:
        """Records of the clicks topic behind the committed offsets."""
        consumer = AIOKafkaConsumer(
            **self.settings.connection.client_arguments(),
            group_id=self.settings.app_id,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            offsets = [
                await consumer.committed(TopicPartition(self.settings.clicks_topic, number))
                for number in range(PARTITIONS)
            ]
        finally:
            await consumer.stop()
        return sum(offset or 0 for offset in offsets)

    async def lying(self) -> int:
        """Records on the clicks topic: more than were produced, where a producer had to repeat."""
        consumer = AIOKafkaConsumer(**self.settings.connection.client_arguments())
        await consumer.start()
        try:
            partitions = [TopicPartition(self.settings.clicks_topic, n) for n in range(PARTITIONS)]
            return sum((await consumer.end_offsets(partitions)).values())
        finally:
            await consumer.stop()

    async def handled(self, worker: WorkerProcess, timeout_s: float = 240) -> None:
        """Waits until everything that was produced is behind the committed offsets."""
        try:
            async with asyncio.timeout(timeout_s):
                while (done := await self.committed()) < self.produced:
                    if worker.exit_code is not None:
                        break
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(
                f"{done} of {self.produced} handled\n{worker.log_tail(40)}"
            ) from None
        assert worker.exit_code is None, worker.log_tail(40)

    async def state_hash(self) -> str:
        return hash_of_users((await users_on_changelog(self.settings)).items())

    async def on(self, topic: str) -> list[StoredRecord]:
        return [each async for each in read_topic(self.settings.connection, topic)]

    async def interventions(self) -> dict[str, list[StoredRecord]]:
        """Interventions by id; more than one record where a crash repeated it."""
        by_id: dict[str, list[StoredRecord]] = defaultdict(list)
        for kind in KINDS:
            for record in await self.on(self.settings.topics.of_kind(kind)):
                by_id[json.loads(record.value or b"")["intervention_id"]].append(record)
        return by_id

    async def interventions_hash(self) -> str:
        seen = InterventionsHash(self.settings.topics)
        for intervention_id, records in (await self.interventions()).items():
            for record in records:
                seen.add(record.topic, intervention_id, record.value or b"")
        return seen.hexdigest()


class Oracle:
    """What one process without a broker makes of the same records.

    Args:
        settings: Of the workers.
        decided: Is told each decision, as it stands on its topic.
    """

    def __init__(
        self, settings: Settings, decided: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self.topics = settings.topics
        self._settings = settings
        self._decided = decided
        self.interventions = InterventionsHash(settings.topics)
        self.ids: set[str] = set()
        self.state_hash = ""
        self.run: Replay | None = None

    async def replay(self, lines: Iterable[RawLine]) -> "Oracle":
        encoder = Encoder(self._settings.window)
        predictor = make_predictor(self._settings, encoder)
        handler = make_handler(self._settings, predictor, encoder)

        def emit(record) -> None:  # type: ignore[no-untyped-def]
            if record.topic.startswith(self.topics.of_kind("")):
                intervention_id = json.loads(record.value)["intervention_id"]
                self.ids.add(intervention_id)
                self.interventions.add(record.topic, intervention_id, record.value)
            if record.topic == self.topics.decisions and record.value is not None:
                self._decided(record.value)

        self.run = Replay(handler, wall_clock_ms, emit)
        await self.run.run(lines)
        if predictor is not None:
            await predictor.close()
        self.state_hash = self.run.state_hash()
        return self


async def until_handled(worker: WorkerProcess, events: float) -> None:
    """Waits until a worker has handled so many events since it started."""
    async with asyncio.timeout(240):
        handled = 0.0
        while handled < events:
            samples = await worker.samples()
            handled = sum(value for (name, _), value in samples.items() if name == "events_total")


@asynccontextmanager
async def under_load(
    shop: Shop, lines: Sequence[RawLine], events_per_s: int
) -> AsyncIterator[None]:
    """Produces lines, from the first on, while the block runs; they are to outlast it."""
    done = asyncio.Event()

    async def produce_until_done() -> None:
        step = events_per_s // 2
        for first in range(0, len(lines), step):
            if done.is_set():
                return
            await shop.produce(lines[first : first + step], events_per_s=events_per_s)

    producing = asyncio.create_task(produce_until_done())
    try:
        yield
        assert not producing.done(), "it was not under load"
    finally:
        done.set()
        await producing
