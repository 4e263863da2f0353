"""The small job on the batch engine; started by `benchmarks.small_job`."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import msgpack

from benchmarks.small_job import CARTS, CLICKS, State, cart_record, report, step
from clickpath.wire.payload import read_json
from stream.batch.app import batch_app
from stream.batch.records import OutputRecord
from stream.batch.worker import run, run_app
from stream.collector import calm_collector
from stream.connection import Connection


def _loads(data: bytes) -> State:
    steps, session_ms, events = msgpack.unpackb(data)
    return State(tuple(map(tuple, steps)), session_ms, events)


async def work(bootstrap_servers: str, count: int, name: str) -> None:
    app = batch_app(
        name, connection=Connection(bootstrap_servers), session_timeout_s=6, chunk_records=4_000
    )
    clicks = app.topic(CLICKS, batch=True)
    users = app.keyed_table("users", source=clicks, dumps=msgpack.packb, loads=_loads)
    carts = f"{name}-{CARTS}"
    stop = asyncio.Event()
    started = 0.0

    async def stop_when_committed() -> None:
        await app.committer.commit()
        report(started, count)
        stop.set()

    @app.agent(clicks, name="clicks")
    async def on_clicks(chunks):  # type: ignore[no-untyped-def]
        nonlocal started
        done = 0
        async for chunk in chunks:
            started = started or time.perf_counter()
            view = users.partition(chunk.partition)
            changed: dict[bytes, State | None] = {}
            outputs = []
            for record in chunk.records:
                key = record.key
                event = read_json(record.value)
                changed[key] = step(changed.get(key) or view.get(key), event)
                if event["type"] == "add_to_cart":
                    outputs.append(OutputRecord(carts, key, cart_record(event)))
            await app.outputs.send(chunk.partition, outputs)
            users.write(chunk.partition, changed)
            done += len(chunk.records)
            if done == count:
                # After this body, which acknowledges the chunk.
                app.last = asyncio.get_running_loop().create_task(stop_when_committed())

    await run_app(app, stop=stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    calm_collector()
    run(work(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
