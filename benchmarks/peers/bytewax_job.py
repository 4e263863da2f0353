"""The small job on Bytewax; started by `benchmarks.peers.run` in an environment of its own.

State with recovery, an epoch of ten seconds, as Bytewax comes. It reads each partition up to its
end; the clock stops when the dataflow has closed its last epoch.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks import small_job as job

Keyed = tuple[str, dict[str, Any]]


def work(bootstrap_servers: str, count: int, name: str) -> None:
    """Does the job with all events of the topic."""
    started = 0.0

    def decode(message: Any) -> Keyed:
        nonlocal started
        started = started or time.perf_counter()
        return message.key.decode(), json.loads(message.value)

    def keep(state: job.State | None, event: dict[str, Any]) -> tuple[job.State, bytes | None]:
        added = event["type"] == "add_to_cart"
        return job.step(state, event), job.cart_record(event) if added else None

    def message_of(keyed: tuple[str, bytes | None]) -> KafkaSinkMessage[bytes, bytes] | None:
        key, record = keyed
        return None if record is None else KafkaSinkMessage(key.encode(), record)

    flow = Dataflow("small_job")
    source = KafkaSource([bootstrap_servers], [job.CLICKS], tail=False)
    clicks = op.input("clicks", flow, source)
    carts = op.stateful_map("keep", op.map("decode", clicks, decode), keep)
    sink = KafkaSink([bootstrap_servers], f"{name}-{job.CARTS}")
    op.output("carts", op.filter_map("messages", carts, message_of), sink)

    folder = Path(tempfile.mkdtemp())
    init_db_dir(folder, job.PARTITIONS)
    cli_main(flow, recovery_config=RecoveryConfig(folder))
    job.report(started, count)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), sys.argv[3])
