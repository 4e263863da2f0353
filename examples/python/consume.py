"""A consumer of interventions that acts once on each, and never too late.

    pip install aiokafka
    python consume.py --bootstrap-servers localhost:9092 --kind coupon

It prints a line for each intervention that it acts on; put your own action into `act`. Ids are
remembered in a file, so that a crash of this program, or of Clickpath's worker, repeats nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sqlite3
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer


class Seen:
    """The ids of interventions that were acted on, in a file, until they expire."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute(
            "create table if not exists seen (id text primary key, expires_ms integer)"
        )

    def __contains__(self, intervention_id: str) -> bool:
        query = "select 1 from seen where id = ?"
        return self._db.execute(query, (intervention_id,)).fetchone() is not None

    def add(self, intervention_id: str, expires_ms: int) -> None:
        """Remembers an id, and forgets those that have expired: they are refused by their time."""
        self._db.execute("delete from seen where expires_ms <= ?", (now_ms(),))
        self._db.execute("insert or ignore into seen values (?, ?)", (intervention_id, expires_ms))


def now_ms() -> int:
    """The present, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def act(intervention: dict[str, Any]) -> None:
    """What you do about it.

    If the power fails between this and `Seen.add`, it is done once more: give the intervention's
    id to whatever you call, as its idempotency key.
    """
    print(json.dumps({"acted_on": intervention["intervention_id"], **intervention["payload"]}))
    sys.stdout.flush()


def handle(value: bytes | None, seen: Seen) -> None:
    """The three rules: a version that we know, not expired, not seen before."""
    if value is None:
        return
    intervention = json.loads(value)  # fields that we do not know are of no concern
    if intervention["v"] != 1:
        print(f"version {intervention['v']} is from the future, passed over", file=sys.stderr)
    elif intervention["expires_ms"] <= now_ms():
        print(f"{intervention['intervention_id']} has expired", file=sys.stderr)
    elif intervention["intervention_id"] in seen:
        print(f"{intervention['intervention_id']} was done before", file=sys.stderr)
    else:
        act(intervention)
        seen.add(intervention["intervention_id"], intervention["expires_ms"])


async def consume(options: argparse.Namespace) -> None:
    """Reads interventions until it is cancelled."""
    seen = Seen(options.seen)
    consumer = AIOKafkaConsumer(
        f"interventions.{options.kind}",
        bootstrap_servers=options.bootstrap_servers,
        group_id=options.group or f"{options.kind}-service",
        auto_offset_reset="earliest",
        # The offset follows the action: what was not finished comes again.
        enable_auto_commit=False,
        # With CLICKPATH_DELIVERY=transactional, what was aborted never happened.
        isolation_level="read_committed",
        session_timeout_ms=6_000,
    )
    await consumer.start()
    try:
        async for record in consumer:
            handle(record.value, seen)
            await consumer.commit()
    finally:
        await consumer.stop()


async def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Acts once on each intervention.")
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--kind", default="coupon")
    parser.add_argument("--group", help="default: <kind>-service")
    parser.add_argument("--seen", default="seen.sqlite", help="file that keeps the ids")
    task = asyncio.create_task(consume(parser.parse_args()))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    asyncio.run(main())
