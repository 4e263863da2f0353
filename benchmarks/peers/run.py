"""The small job on Quix Streams and on Bytewax, beside ours: `make bench-peers`.

Each peer runs in an environment of its own, on its own defaults, and every engine is measured in
its own process from its first event until outputs, state and offsets of the last one are safe:
plain Faust until the last event only, which favours it. Plain Faust gets the first events only,
because it is slow; the rate is what counts. Quix reads JSON with orjson, Bytewax's job with the
standard library, ours and the loop by hand with pydantic-core, as the worker does. A run of
another engine counts only if its records for add_to_cart are all there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from functools import partial

from aiokafka import AIOKafkaConsumer

from benchmarks import small_job
from benchmarks.side_by_side import Engine, conditions, measure, report
from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.connection import Connection

#: Quix makes its changelog topic after the retention of its input and insists that it has one.
_CLICKS = TopicSpec(
    partitions=small_job.PARTITIONS, config={"retention.ms": "604800000", "retention.bytes": "-1"}
)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--quix", required=True, help="the Python that has Quix Streams")
    parser.add_argument("--bytewax", required=True, help="the Python that has Bytewax")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--plain-events", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        asyncio.run(create_topics(Connection(servers), {small_job.CLICKS: _CLICKS}))
        size = asyncio.run(small_job.fill(servers, given.events))
        print(conditions(given.events, size, given.runs), flush=True)
        checked = partial(_checked, servers, given.events)
        rates = measure(
            {
                "plain_faust": partial(small_job.run_plain, servers, given.plain_events),
                "quix": checked(_peer("quix_job", given.quix)),
                "bytewax": checked(_peer("bytewax_job", given.bytewax)),
                "aiokafka": checked(small_job.run_by_hand),
                "batch_path": checked(small_job.run_batch),
            },
            given.runs,
        )
    report(rates, "batch_path", broker="embedded", events=given.events, runs=given.runs)


def _peer(module: str, python: str) -> Callable[[str, int, str], float]:
    """An engine with an interpreter of its own."""
    return lambda servers, count, run: (
        small_job.run_engine(f"benchmarks.peers.{module}", servers, count, run, python=python).eps
    )


def _checked(servers: str, count: int, run_job: Callable[[str, int, str], float]) -> Engine:
    """An engine whose runs must have left a record for each add_to_cart."""
    values = (json.loads(value) for _, _, value in small_job.events(count))
    expected = {event["event_id"] for event in values if event["type"] == "add_to_cart"}

    def run(name: str) -> float:
        rate = run_job(servers, count, name)
        found = asyncio.run(_added(servers, f"{name}-{small_job.CARTS}"))
        if found != expected:
            raise RuntimeError(f"{name} wrote {len(found)} of {len(expected)} cart records")
        return rate

    return run


async def _added(servers: str, topic: str) -> set[str]:
    """The event ids in a topic of cart records."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        found: set[str] = set()
        while fetched := await consumer.getmany(timeout_ms=1000):
            for records in fetched.values():
                found.update(json.loads(record.value)["event_id"] for record in records)
        return found
    finally:
        await consumer.stop()


if __name__ == "__main__":
    main()
