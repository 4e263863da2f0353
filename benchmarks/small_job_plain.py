"""The small job on plain Faust, one event at a time; started by `benchmarks.small_job`."""

from __future__ import annotations

import os
import sys
import tempfile
import time

import faust

from benchmarks.small_job import CARTS, CLICKS, PARTITIONS, cart_record, report, step

# What makes it start faster on the embedded broker; nothing that it does per event.
_STARTUP = {
    "broker_session_timeout": 6.0,
    "broker_heartbeat_interval": 2.0,
    "topic_disable_leader": True,
    "web_enabled": False,
}


def make_app(bootstrap_servers: str, count: int, name: str, linger_ms: int) -> faust.App:
    settings = {**_STARTUP, **({"producer_linger": linger_ms / 1000} if linger_ms else {})}
    app = faust.App(
        name,
        broker=f"kafka://{bootstrap_servers}",
        datadir=tempfile.mkdtemp(),
        topic_partitions=PARTITIONS,
        **settings,
    )
    clicks = app.topic(CLICKS, key_type=str, value_serializer="json")
    carts = app.topic(f"{name}-{CARTS}", key_type=str, value_serializer="raw")
    users = app.Table("users", key_type=str, partitions=PARTITIONS)

    @app.agent(clicks, name="clicks")
    async def on_clicks(events):  # type: ignore[no-untyped-def]
        started, done = 0.0, 0
        async for user, event in events.items():
            started = started or time.perf_counter()
            users[user] = step(users.get(user), event)
            if event["type"] == "add_to_cart":
                await carts.send(key=user, value=cart_record(event))
            done += 1
            if done == count:
                report(started, count)
                # The measurement is over, and a plain worker takes its time to stop.
                os._exit(0)

    return app


if __name__ == "__main__":
    faust.Worker(
        make_app(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])), loglevel="warning"
    ).execute_from_commandline()
