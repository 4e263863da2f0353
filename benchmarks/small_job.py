"""A small job without a model, done by plain Faust, by the batch engine, and by aiokafka by hand.

Topic `clicks`, 4 partitions, key = user (20,000 users, Zipf), JSON events of about 180 bytes. For
each event: decode it, keep the user's last 32 steps and a 30-minute session in the engine's
durable state, and send a small record for each add_to_cart. One worker process, one broker for
all runs, which take turns. The batch engine and the loop by hand read JSON and set the garbage
collector as the worker does; plain Faust runs as it comes.

Plain Faust is measured on the first events only, because it is slow; the rate is what counts.
The engines of `benchmarks.peers` import this module too, from environments without ours: at import
it needs the standard library alone.

    python -m benchmarks.small_job --events 100000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

PARTITIONS = 4
USERS = 20_000
STEPS = 32
SESSION_GAP_MS = 30 * 60 * 1000
CLICKS = "clicks"
CARTS = "carts"

_ACTIONS = ("page_view", "view_item", "search", "view_item_list", "add_to_cart", "purchase")
_ACTION_WEIGHTS = (40, 30, 10, 10, 8, 2)
_START_MS = 1_760_000_000_000


class State(NamedTuple):
    """What is kept of a user."""

    steps: tuple[tuple[int, str, str], ...]
    session_ms: int
    events: int


def step(state: State | None, event: dict[str, Any]) -> State:
    """The user's state after an event."""
    ts_ms = event["ts_ms"]
    this = (ts_ms, event["type"], event["item_id"])
    if state is None:
        return State((this,), ts_ms, 1)
    steps, session_ms, events = state
    if ts_ms - steps[-1][0] > SESSION_GAP_MS:
        session_ms = ts_ms
    return State((*steps[1 - STEPS :], this), session_ms, events + 1)


def cart_record(event: dict[str, Any]) -> bytes:
    """The small record for an add_to_cart."""
    return b'{"event_id":"%b","item_id":"%b"}' % (
        event["event_id"].encode(),
        event["item_id"].encode(),
    )


def events(count: int, seed: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
    """Partition, key and value of each event, in order."""
    draw = random.Random(seed)
    weights = list(accumulate(1 / rank for rank in range(1, USERS + 1)))
    users = draw.choices(range(USERS), cum_weights=weights, k=count)
    actions = draw.choices(_ACTIONS, _ACTION_WEIGHTS, k=count)
    for number, (user, action) in enumerate(zip(users, actions, strict=True)):
        event = {
            "event_id": f"e{number:012d}",
            "user_id": f"user-{user:06d}",
            "ts_ms": _START_MS + number * 20,
            "type": action,
            "item_id": f"sku-{draw.randrange(5_000):05d}",
            "category": f"category-{draw.randrange(40):02d}",
            "price_cents": draw.randrange(100, 20_000),
            "page": "/shop/summer/listing",
        }
        value = json.dumps(event, separators=(",", ":")).encode()
        yield user % PARTITIONS, event["user_id"].encode(), value


async def fill(bootstrap_servers: str, count: int) -> int:
    """Writes the events; returns their mean size in bytes."""
    from aiokafka import AIOKafkaProducer

    from stream.broker import TopicSpec, create_topics
    from stream.connection import Connection

    await create_topics(Connection(bootstrap_servers), {CLICKS: TopicSpec(partitions=PARTITIONS)})
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", max_batch_size=256 << 10
    )
    await producer.start()
    size = 0
    try:
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        for partition, key, value in events(count):
            size += len(value)
            if batches[partition].append(key=key, value=value, timestamp=None) is None:
                await producer.send_batch(batches[partition], CLICKS, partition=partition)
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=value, timestamp=None)
        for partition, batch in enumerate(batches):
            await (await producer.send_batch(batch, CLICKS, partition=partition))
        await producer.flush()
    finally:
        await producer.stop()
    return size // count


class Result(NamedTuple):
    """What a run reports."""

    events: int
    wall_s: float
    cpu_s: float
    rss_mb: float

    @property
    def eps(self) -> float:
        """Events a second."""
        return self.events / self.wall_s


def run_engine(
    module: str,
    bootstrap_servers: str,
    count: int,
    run: str,
    *more: str,
    python: str = sys.executable,
) -> Result:
    """Runs one engine in a process of its own, on topics of its own besides the clicks.

    Args:
        module: The program; its arguments are the next three and `more`.
        bootstrap_servers: The broker, filled by `fill`.
        count: Events to process.
        run: A name that no other run on this broker has.
        more: Further arguments.
        python: The interpreter, where the engine has an environment of its own.
    """
    from stream.broker import TopicSpec, create_topics
    from stream.connection import Connection

    changelog = {
        f"{run}-users-changelog": TopicSpec(
            partitions=PARTITIONS, config={"cleanup.policy": "compact"}
        )
    }
    topics = {f"{run}-{CARTS}": TopicSpec(partitions=PARTITIONS), **changelog}
    asyncio.run(create_topics(Connection(bootstrap_servers), topics))
    command = [python, "-m", module, bootstrap_servers, str(count), run, *more]
    done = subprocess.run(
        command,
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode or not done.stdout:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def run_plain(bootstrap_servers: str, count: int, run: str, *, linger_ms: int = 0) -> float:
    """Events a second of plain Faust, one at a time, with a table and its changelog.

    Args:
        bootstrap_servers: The broker, filled by `fill`.
        count: Events to process.
        run: A name that no other run on this broker has.
        linger_ms: 0 leaves the producer's default.
    """
    return run_engine(
        "benchmarks.small_job_plain", bootstrap_servers, count, run, str(linger_ms)
    ).eps


def run_batch(bootstrap_servers: str, count: int, run: str) -> float:
    """Events a second of the batch engine, until the last state and offset are committed."""
    return run_engine("benchmarks.small_job_batch", bootstrap_servers, count, run).eps


def run_by_hand(bootstrap_servers: str, count: int, run: str) -> float:
    """Events a second of a loop on aiokafka with a dict, and a batched changelog per commit."""
    return run_engine("benchmarks.small_job_by_hand", bootstrap_servers, count, run).eps


def report(started: float, count: int) -> None:
    """Prints an engine's result as its last line; called in the engine's process.

    Args:
        started: `time.perf_counter()` at the first event.
        count: Events processed.
    """
    import resource
    import time

    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = Result(
        events=count,
        wall_s=time.perf_counter() - started,
        cpu_s=usage.ru_utime + usage.ru_stime,
        rss_mb=usage.ru_maxrss / 1024,
    )
    # Not `sys.stdout`, which a Faust worker replaces by a logger.
    print(json.dumps(result._asdict()), file=sys.__stdout__, flush=True)


def compare(count: int, plain_count: int, runs: int) -> dict[str, Any]:
    """Runs all engines in turn on one broker and returns medians and ratios."""
    from stream.broker import EmbeddedBroker

    rates: dict[str, list[float]] = {}
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        size = asyncio.run(fill(servers, count))
        for number in range(runs):
            measured = {
                "batch": run_batch(servers, count, f"batch-{number}"),
                "plain": run_plain(servers, plain_count, f"plain-{number}"),
                "plain_linger": run_plain(servers, plain_count, f"linger-{number}", linger_ms=20),
                "by_hand": run_by_hand(servers, count, f"hand-{number}"),
            }
            for name, rate in measured.items():
                rates.setdefault(name, []).append(rate)
    medians = {name: round(statistics.median(each)) for name, each in rates.items()}
    return {
        "job": "small",
        "events": count,
        "plain_events": plain_count,
        "event_bytes": size,
        "runs": runs,
        "eps": medians,
        "all_eps": {name: [round(rate) for rate in each] for name, each in rates.items()},
        "batch_over": {
            name: round(medians["batch"] / rate, 1)
            for name, rate in medians.items()
            if name != "batch"
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--plain-events", type=int, default=8_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(arguments)
    result = compare(given.events, given.plain_events, given.runs)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, embedded broker, "
        f"{given.events} events of {result['event_bytes']} bytes (plain Faust: the first "
        f"{given.plain_events}), {USERS} users, medians of {given.runs} runs in turn"
    )
    for name, rate in result["eps"].items():
        ratio = result["batch_over"].get(name)
        print(f"{name:>14} {rate:>9,} events/s" + (f"   batch is {ratio:.1f}x" if ratio else ""))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
