"""Workers join, leave, die and sleep under load; compares with one process.

    python -m tests.kafka.joins --changes 20 --seconds 300 --mode transactional

Two to four workers share the partitions while events come in at a pace. Every few seconds one
joins, is told to stop, is killed, or sleeps for longer than the session timeout and wakes up as a
zombie. The last line is one JSON object: broker, mode, changes and how many of each kind, seconds,
and the fields of `make chaos`; `recovery_s_*` is from the start of one that joins to all that are
awake being ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickpath import simulation
from clickpath.errors import FatalError
from stream.process import WorkerProcess
from tests.kafka.apache import ApacheKafka, Missing
from tests.kafka.chaos import SESSION_S, compared, environ_of, kept
from tests.promises.shop import Oracle, Shop, lines_of

_FEWEST, _MOST = 2, 4


class Crew:
    """The workers of a shop, of which some sleep."""

    def __init__(self, shop: Shop, luck: random.Random) -> None:
        self._shop = shop
        self._luck = luck
        self.awake: list[WorkerProcess] = []
        self.asleep: list[WorkerProcess] = []
        self.changes: Counter[str] = Counter()

    async def join(self) -> None:
        worker = self._shop.worker()
        await worker.start()
        self.awake.append(worker)

    async def change(self) -> str:
        """Does one thing; sleepers of earlier changes wake up first."""
        for worker in self.asleep:
            os.kill(worker.pid, signal.SIGCONT)
        self.awake += self.asleep
        self.asleep = []
        kinds = ["join"] if len(self.awake) < _MOST else []
        if len(self.awake) > _FEWEST:
            kinds += ["leave", "kill", "sleep"]
        kind = self._luck.choice(kinds)
        self.changes[kind] += 1
        if kind == "join":
            await self.join()
            return kind
        worker = self.awake.pop(self._luck.randrange(len(self.awake)))
        if kind == "sleep":
            os.kill(worker.pid, signal.SIGSTOP)
            self.asleep.append(worker)
        elif kind == "kill":
            await worker.kill()
        elif code := await worker.stop():
            raise FatalError(f"a worker that was to leave ended with {code}\n{worker.log_tail(40)}")
        return kind

    async def ready(self) -> None:
        """Waits until all that are awake are ready."""
        for worker in self.awake:
            await worker.wait_ready(120)

    async def stop(self) -> None:
        """Tells all to stop.

        Raises:
            FatalError: One did not stop in order.
        """
        for worker in self.asleep:
            os.kill(worker.pid, signal.SIGCONT)
        for worker in self.awake + self.asleep:
            if code := await worker.stop():
                raise FatalError(f"a worker ended with {code}\n{worker.log_tail(40)}")

    async def kill(self) -> None:
        for worker in self.awake + self.asleep:
            await worker.kill()


def main(argv: Sequence[str]) -> int:
    """Runs it; 0 if every promise was kept."""
    arguments = argparse.ArgumentParser(
        prog="tests.kafka.joins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--changes", type=int, default=20)
    arguments.add_argument("--seconds", type=float, default=300.0)
    arguments.add_argument(
        "--mode", choices=["at-least-once", "transactional"], default="at-least-once"
    )
    arguments.add_argument("--events-per-s", type=int, default=200)
    arguments.add_argument("--standby-replicas", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args(argv)
    with ApacheKafka() as broker, tempfile.TemporaryDirectory() as folder:
        environ = environ_of(options.mode)
        environ["CLICKPATH_STANDBY_REPLICAS"] = str(options.standby_replicas)
        shop = Shop(broker.bootstrap_servers, Path(folder), environ)
        found = asyncio.run(_joins(shop, options))
    print(json.dumps({"broker": "apache-kafka", "mode": options.mode, **found}))
    return int(not kept(options.mode, found))


async def _joins(shop: Shop, options: argparse.Namespace) -> dict[str, Any]:
    await shop.create_topics()
    events = int(options.events_per_s * options.seconds)
    lines = lines_of(simulation.simulate(events, max(50, events // 20), seed=options.seed))
    expected = await Oracle(shop.settings).replay(lines)
    luck = random.Random(options.seed)
    crew = Crew(shop, luck)
    recoveries: list[float] = []
    begun_s = time.monotonic()
    try:
        for _ in range(_FEWEST):
            await crew.join()
        await crew.ready()
        begun_s = time.monotonic()
        producing = asyncio.create_task(shop.produce(lines, events_per_s=options.events_per_s))
        for number in range(options.changes):
            due_s = begun_s + (number + 1) * options.seconds / (options.changes + 1)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            changed_s = time.monotonic()
            kind = await crew.change()
            await crew.ready()
            took_s = time.monotonic() - changed_s
            if kind == "join":
                recoveries.append(took_s)
            print(
                f"change {number + 1} of {options.changes}: {kind}, {len(crew.awake)} awake, "
                f"ready after {took_s:.1f} s",
                file=sys.stderr,
            )
        await producing
        await shop.handled(crew.awake[0], timeout_s=600)
        seconds = time.monotonic() - begun_s
        await crew.stop()
    finally:
        await crew.kill()
    return {
        "changes": options.changes,
        **{f"{kind}s": crew.changes[kind] for kind in ("join", "leave", "kill", "sleep")},
        "seconds": round(seconds, 1),
        "session_timeout_s": SESSION_S,
        "standby_replicas": options.standby_replicas,
        "events": len(lines),
        **await compared(shop, expected, recoveries),
    }


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Missing, FatalError) as error:
        sys.exit(f"tests.kafka.joins: {error}")
