"""How long a worker takes to take the partitions of a dead one over, with and without a standby.

    python -m benchmarks.takeover --users 500000

Two workers in processes of their own restore a changelog of that many users and handle some events;
then one of them is killed with `kill -9`. The last line is one JSON object: for each store, without
and with a standby, the seconds from the new assignment to ready, those from the kill to ready (the
session timeout is among them), the memory of a worker before the kill, its CPU time for an event,
and what a user costs a standby, in bytes of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peak import conditions
from benchmarks.recovery import fill_changelog, make_topics, settings_of
from benchmarks.small_job import PARTITIONS, fill
from stream.app import create_app
from stream.batch.worker import run, run_app
from stream.broker import EmbeddedBroker
from stream.collector import calm_collector

_NAME = "takeover"
_POLL_S = 0.01
_PATIENCE_S = 600.0
_PAGE_BYTES = resource.getpagesize()


class Child:
    """A worker in a process of its own, and what it last said of itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: dict[str, Any] = {}

    @classmethod
    async def start(cls, servers: str, folder: str, replicas: int) -> Child:
        """Starts one; with an empty folder its states are in memory."""
        arguments = ("-m", "benchmarks.takeover", "--child", servers, folder, str(replicas))
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
            )
        )

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits until what it says fulfils a condition."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            while not (self.said and condition(self.said)):
                line = await self._process.stdout.readline()
                if not line:
                    raise SystemExit("a worker ended by itself")
                self.said = json.loads(line)
        return self.said

    async def end(self, number: signal.Signals) -> None:
        """Ends it."""
        self._process.send_signal(number)
        assert self._process.stdout is not None
        await self._process.stdout.read()
        await self._process.wait()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--events", type=int, default=50_000)
    given = parser.parse_args()
    said = conditions()
    print(f"{given.users:,} users, embedded broker, {PARTITIONS} partitions; {said}", flush=True)
    found: dict[str, Any] = {"users": given.users, "events": given.events, "conditions": said}
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
        servers = broker.bootstrap_servers
        asyncio.run(make_topics(servers, _NAME))
        found["state_bytes"] = asyncio.run(fill_changelog(servers, _NAME, given.users))
        for store in ("memory", "rocksdb"):
            for replicas in (0, 1):
                place = Path(folder) / f"{store}-{replicas}" if store == "rocksdb" else None
                took = asyncio.run(_takeover(servers, place, replicas, given.events))
                found[f"{store}_{replicas}"] = took
                print(f"{store:<8} {replicas} standby: {json.dumps(took)}", flush=True)
            without, with_one = found[f"{store}_0"], found[f"{store}_1"]
            more_mb = with_one["rss_mb"] - without["rss_mb"]
            found[f"{store}_standby_bytes_per_user"] = round(more_mb * 2**20 / (given.users / 2))
    print(json.dumps(found))


async def _takeover(servers: str, place: Path | None, replicas: int, events: int) -> dict[str, Any]:
    folders = ["" if place is None else f"{place}-{each}" for each in ("stays", "dies")]
    # At once, so that none has states of all partitions.
    stays, dies = [await Child.start(servers, each, replicas) for each in folders]
    half = PARTITIONS // 2

    def kept_up(said: dict[str, Any]) -> bool:
        shares = said["assigned"] == half and said["recovered"]
        return bool(shares and said["standbys"] == half * replicas and said["standby_lag"] == 0)

    before = [await each.until(kept_up) for each in (stays, dies)]
    await fill(servers, events)
    done = before[0]["records"] + before[1]["records"] + events

    def handled(_: dict[str, Any]) -> bool:
        return bool(stays.said["records"] + dies.said["records"] >= done)

    while not handled({}):
        for each in (stays, dies):
            now_s = time.monotonic()
            await each.until(lambda said, now_s=now_s: said["at_s"] > now_s)  # type: ignore[misc]
    settled_s = time.monotonic() + 3.0
    after = [
        await each.until(lambda said: said["at_s"] > settled_s and kept_up(said))
        for each in (stays, dies)
    ]
    cpu_s = sum(each["cpu_s"] for each in after) - sum(each["cpu_s"] for each in before)
    killed_s = time.monotonic()
    await dies.end(signal.SIGKILL)
    assigned = await stays.until(lambda said: said["assigned"] == PARTITIONS)
    ready = await stays.until(lambda said: said["recovered"] and said["assigned"] == PARTITIONS)
    await stays.end(signal.SIGTERM)
    return {
        "restore_s": round(ready["recovered_s"] - assigned["assigned_s"], 3),
        "kill_to_ready_s": round(ready["recovered_s"] - killed_s, 2),
        "rss_mb": round(after[0]["rss_mb"]),
        "cpu_us_per_event": round(1e6 * cpu_s / events, 1) if events else None,
        "users_after": ready["users"],
    }


async def _work(servers: str, folder: str, replicas: int) -> None:
    settings = settings_of(servers, _NAME, folder)
    settings = settings.model_copy(update={"standby_replicas": replicas})
    worker = create_app(settings, None, lambda: time.time_ns() // 1_000_000)
    stop = asyncio.Event()
    telling = asyncio.create_task(_tell(worker, stop))
    await run_app(worker.app, stop=stop)
    telling.cancel()


async def _tell(worker: Any, stop: asyncio.Event) -> None:
    """Says how things are, at once when the assignment changes and a few times a second."""
    progress, users = worker.app.progress, worker.users
    rebalances, assigned_s, recovered, recovered_s, told_s = 0, 0.0, False, 0.0, 0.0
    while not stop.is_set():
        await asyncio.sleep(_POLL_S)
        now_s = time.monotonic()
        news = progress.rebalances != rebalances or progress.recovered != recovered
        if progress.rebalances != rebalances:
            rebalances, assigned_s = progress.rebalances, now_s
        if progress.recovered and not recovered:
            recovered_s = progress.recovered_monotonic_s
        recovered = progress.recovered
        if not news and now_s - told_s < 0.2:
            continue
        told_s = now_s
        lags = [each.lag_records for each in progress.standbys.values()]
        said = {
            "at_s": now_s,
            "assigned": len(progress.assignment),
            "assigned_s": assigned_s,
            "recovered": recovered,
            "recovered_s": recovered_s,
            "standbys": len(lags),
            "standby_lag": None if None in lags else sum(lags),
            "records": progress.records,
            "users": sum(users.partition(each).size for each in users.partitions),
            "cpu_s": time.process_time(),
            "rss_mb": _rss_bytes() / 2**20,
        }
        print(json.dumps(said), flush=True)


def _rss_bytes() -> int:
    pages = Path(f"/proc/{os.getpid()}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * _PAGE_BYTES


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        logging.basicConfig(level=logging.WARNING)
        calm_collector()
        run(_work(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        main()
