"""Recovery of many users' states, and the speed of a worker, with states in memory and on disk.

    python -m benchmarks.recovery --users 1000000

A changelog is filled with real states; workers in processes of their own restore it: into memory,
onto an empty disk, and from the disk that the last one left. Then a worker with its real handler
and no model handles the events of the small job, in turn with each store. The last line is one JSON
object: users restored a second, from the assignment to ready, with the peak of memory; events a
second; conditions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from aiokafka import AIOKafkaProducer

from benchmarks.peak import conditions, python
from benchmarks.small_job import CLICKS, PARTITIONS, fill
from clickpath.encoding import Encoder
from clickpath.logs import RawLine
from clickpath.simulation import simulate
from clickpath.wire import click_to_json
from clickpath.wire.state import dump_user
from stream.app import Worker, create_app
from stream.batch.worker import run, run_app
from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.collector import calm_collector
from stream.connection import Connection
from stream.replay import Replay
from stream.settings import Settings
from stream.wiring import make_handler

_POLL_S = 0.005
_SAMPLE_USERS = 2_000


def settings_of(servers: str, name: str, folder: str) -> Settings:
    """Settings of a worker with topics of its own besides the clicks; memory without a folder."""
    return Settings(
        bootstrap_servers=servers,
        app_id=name,
        clicks_topic=CLICKS,
        decisions_topic=f"{name}-decisions",
        interventions_topic=f"{name}-interventions",
        dead_letter_topic=f"{name}-dead-letter",
        late_topic=f"{name}-late",
        model="none",
        session_timeout_s=6,
        store="rocksdb" if folder else "memory",
        store_dir=folder,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    said = conditions()
    print(f"{given.users:,} users, embedded broker, {PARTITIONS} partitions; {said}", flush=True)
    found: dict[str, object] = {"users": given.users, "conditions": said}
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
        servers, disk = broker.bootstrap_servers, str(Path(folder) / "disk")
        asyncio.run(make_topics(servers, "recovery"))
        found["state_bytes"] = asyncio.run(fill_changelog(servers, "recovery", given.users))
        for kind, place in (("memory", ""), ("rocksdb", disk), ("rocksdb_again", disk)):
            ran = _child(servers, "recovery", "0", place)
            assert ran["users"] >= 0.9 * given.users, ran
            found[f"{kind}_s"] = round(ran["seconds"], 2)
            found[f"{kind}_mb"] = round(ran["peak_mb"])
            if kind != "rocksdb_again":
                found[f"{kind}_users_per_s"] = round(given.users / ran["seconds"])
            print(f"{kind:<14} ready after {ran['seconds']:6.1f} s, {ran['peak_mb']:,.0f} MB")
        asyncio.run(fill(servers, given.events))
        speeds: dict[str, list[float]] = {"memory": [], "rocksdb": []}
        for number in range(given.runs):
            for kind, rates in speeds.items():
                name = f"{kind}-{number}"
                asyncio.run(make_topics(servers, name))
                place = str(Path(folder) / name) if kind == "rocksdb" else ""
                rates.append(_child(servers, name, str(given.events), place)["events_per_s"])
        for kind, rates in speeds.items():
            found[f"{kind}_events_per_s"] = round(statistics.median(rates))
            print(f"{kind:<14} {statistics.median(rates):9,.0f} events/s")
    print(json.dumps(found))


def _child(servers: str, name: str, events: str, folder: str) -> dict[str, float]:
    ran = python("-m", "benchmarks.recovery", "--child", servers, name, events, folder)
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return {**result, "peak_mb": ran.peak_mb}


async def make_topics(servers: str, name: str) -> None:
    """Makes the topics of a worker with such settings."""
    configs = settings_of(servers, name, "").topics.configs()
    specs = {each: TopicSpec(partitions=PARTITIONS, config=configs[each]) for each in configs}
    await create_topics(Connection(servers), specs)


async def fill_changelog(servers: str, name: str, users: int) -> int:
    """Writes states of simulated shoppers under other names; their mean size in bytes."""
    settings = settings_of(servers, name, "")
    replay = Replay(
        make_handler(settings, None, Encoder(settings.window)),
        lambda: time.time_ns() // 1_000_000,
        lambda _: None,
    )
    await replay.run(_sample())
    values = [dump_user(state) for state in replay.users.values()]
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_batch_size=1 << 20)
    await producer.start()
    topic = settings.topics.changelog
    try:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for number, value in zip(range(partition, users, PARTITIONS), cycle(values)):
                record = {"key": b"user-%d" % number, "value": value, "timestamp": None}
                if batch.append(**record) is None:
                    await producer.send_batch(batch, topic, partition=partition)
                    batch = producer.create_batch()
                    batch.append(**record)
            await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return round(statistics.fmean(map(len, values)))


def _sample() -> Iterator[RawLine]:
    for click in simulate(30 * _SAMPLE_USERS, _SAMPLE_USERS, seed=1):
        yield RawLine(click.user_id.encode(), click_to_json(click), (), "")


async def work(settings: Settings, events: int) -> None:
    """Restores, handles so many events, and prints one JSON line."""
    worker = create_app(settings, None, lambda: time.time_ns() // 1_000_000)
    stop = asyncio.Event()
    watching = asyncio.create_task(_watch(worker, events, stop))
    await run_app(worker.app, stop=stop)
    await watching


async def _watch(worker: Worker, events: int, stop: asyncio.Event) -> None:
    progress, users = worker.app.progress, worker.users
    while not progress.assignment:
        await asyncio.sleep(_POLL_S)
    begun_s = time.perf_counter()
    while not progress.recovered:
        await asyncio.sleep(_POLL_S)
    recovered_s = time.perf_counter()
    while progress.records < events:
        await asyncio.sleep(_POLL_S)
    if events:
        await worker.app.committer.commit()
    print(
        json.dumps(
            {
                "users": sum(users.partition(each).size for each in users.partitions),
                "seconds": recovered_s - begun_s,
                "events_per_s": events / (time.perf_counter() - recovered_s),
            }
        )
    )
    stop.set()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        logging.basicConfig(level=logging.WARNING)
        calm_collector()
        run(work(settings_of(sys.argv[2], sys.argv[3], sys.argv[5]), int(sys.argv[4])))
    else:
        main()
