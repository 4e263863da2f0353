"""The small job as a loop on aiokafka, a dict for state; started by `benchmarks.small_job`.

Outputs and changelog go out in batches and are awaited, the changelog (latest value of each key)
once a second before the offsets. There is no restore, no rebalance and no error handling: this
is what the engine's safety is measured against.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgpack
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.small_job import CARTS, CLICKS, State, cart_record, report, step
from clickpath.wire.payload import read_json
from stream.batch.worker import run
from stream.collector import calm_collector

_COMMIT_S = 1.0


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, pairs: list[tuple[bytes, bytes]]
) -> None:
    acknowledged = []
    batch = producer.create_batch()
    for key, value in pairs:
        if batch.append(key=key, value=value, timestamp=None) is None:
            acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*acknowledged)


async def _commit(
    consumer: Any, producer: Any, name: str, changed: dict[int, dict[bytes, State]]
) -> None:
    for partition, states in changed.items():
        pairs = [(key, msgpack.packb(state)) for key, state in states.items()]
        await _send(producer, f"{name}-users-changelog", partition, pairs)
    changed.clear()
    await consumer.commit()


async def work(bootstrap_servers: str, count: int, name: str) -> None:
    consumer = AIOKafkaConsumer(
        CLICKS,
        bootstrap_servers=bootstrap_servers,
        group_id=name,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        fetch_max_wait_ms=100,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", max_batch_size=256 << 10
    )
    await consumer.start()
    await producer.start()
    users: dict[bytes, State] = {}
    changed: dict[int, dict[bytes, State]] = {}
    done, started, committed = 0, 0.0, 0.0
    while done < count:
        fetched = await consumer.getmany(timeout_ms=1000, max_records=4000)
        started = started or time.perf_counter()
        for partition, records in fetched.items():
            carts = []
            latest = changed.setdefault(partition.partition, {})
            for record in records:
                event = read_json(record.value)
                users[record.key] = latest[record.key] = step(users.get(record.key), event)
                if event["type"] == "add_to_cart":
                    carts.append((record.key, cart_record(event)))
            await _send(producer, f"{name}-{CARTS}", partition.partition, carts)
            done += len(records)
        if time.perf_counter() - max(started, committed) > _COMMIT_S:
            await _commit(consumer, producer, name, changed)
            committed = time.perf_counter()
    await _commit(consumer, producer, name, changed)
    report(started, count)
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    calm_collector()
    run(work(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
