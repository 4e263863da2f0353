"""The small job on Quix Streams; started by `benchmarks.peers.run` in an environment of its own.

RocksDB state with its changelog topic and a commit every five seconds, as Quix comes. The clock
stops when the last checkpoint is committed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

from quixstreams import Application, State

from benchmarks import small_job as job


def work(bootstrap_servers: str, count: int, name: str) -> None:
    """Does the job with the first `count` events of the topic."""
    started = done = 0.0

    def stop_after_the_last(topic: str, partition: int, offset: int) -> None:
        nonlocal done
        done += 1
        if done == count:
            app.stop()

    app = Application(
        bootstrap_servers,
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir=tempfile.mkdtemp(),
        on_message_processed=stop_after_the_last,
        consumer_extra_config={"session.timeout.ms": 6000, "heartbeat.interval.ms": 2000},
        loglevel="WARNING",
    )
    clicks = app.topic(job.CLICKS, key_deserializer="bytes", value_deserializer="json")
    carts = app.topic(f"{name}-{job.CARTS}", key_serializer="bytes", value_serializer="bytes")

    def keep(event: dict[str, Any], state: State) -> bytes | None:
        nonlocal started
        started = started or time.perf_counter()
        kept = state.get("user")
        state.set("user", list(job.step(job.State(*kept) if kept else None, event)))
        return job.cart_record(event) if event["type"] == "add_to_cart" else None

    added = app.dataframe(clicks).apply(keep, stateful=True)
    added.filter(lambda record: record is not None).to_topic(carts)
    app.run()
    job.report(started, count)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), sys.argv[3])
