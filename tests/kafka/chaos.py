"""`make chaos`: kills workers under load, again and again, and compares with one process.

    make chaos KILLS=50 MODE=transactional BROKER=apache-kafka
    make chaos ARGS="--standby --store rocksdb"

With `--standby` two workers stand by for each other; one of them is killed, the other takes its
partitions over, and a new one joins. The last line is one JSON object:

    broker, mode, standby, store, kills, events, interventions   what was done
    not_decided     interventions that one process does not send
    lost            interventions that one process sends and the workers did not
    double          causes with more than one intervention id
    raw_duplicates  records of interventions beyond the first of an id, as read-committed reads them
    state_equal     whether all users' states are those of one process, byte for byte
    recovery_s_p50, recovery_s_max
                    from a kill to all partitions assigned and their states recovered, with the
                    session timeout that the group waits for the killed one
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clickpath import simulation
from clickpath.errors import FatalError
from stream.broker import EmbeddedBroker
from tests.kafka.apache import ApacheKafka, Missing
from tests.kafka.crews import Crew, Lone, Pair
from tests.promises.shop import Oracle, Shop, lines_of, names_of_its_own

#: Silence after which the group gives the partitions of a worker away.
SESSION_S = 3


def main(argv: Sequence[str]) -> int:
    """Runs it; 0 if every promise was kept."""
    arguments = argparse.ArgumentParser(
        prog="make chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument(
        "--mode", choices=["at-least-once", "transactional"], default="at-least-once"
    )
    arguments.add_argument("--broker", choices=["apache-kafka", "embedded"], default="apache-kafka")
    arguments.add_argument("--standby", action="store_true")
    arguments.add_argument("--store", choices=["memory", "rocksdb"], help="with --standby")
    arguments.add_argument("--events-per-kill", type=int, default=1_500)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args(argv)
    if options.broker == "embedded" and options.mode == "transactional":
        arguments.error("the embedded broker has no transactions")
    if options.store and not options.standby:
        arguments.error("--store is for --standby; CLICKPATH_STORE for one worker at a time")
    with _broker(options.broker) as broker, tempfile.TemporaryDirectory() as folder:
        shop = Shop(broker.bootstrap_servers, Path(folder), _environ(options, folder))
        crew = Pair(shop, Path(folder)) if options.standby else Lone(shop)
        found = asyncio.run(_chaos(shop, crew, options))
    said = {each: getattr(options, each) for each in ("broker", "mode", "standby", "store")}
    print(json.dumps({**said, **found}))
    return int(not kept(options.mode, found))


def environ_of(mode: str) -> dict[str, str]:
    """The settings of workers that are to be killed."""
    return {
        **names_of_its_own(),
        "CLICKPATH_DELIVERY": mode,
        "CLICKPATH_SESSION_TIMEOUT_S": str(SESSION_S),
        "CLICKPATH_COMMIT_INTERVAL_S": "0.3",
        # A slow machine must not change what is decided.
        "CLICKPATH_PREDICT_DEADLINE_S": "60",
    }


def _environ(options: argparse.Namespace, folder: str) -> dict[str, str]:
    environ = environ_of(options.mode)
    if options.standby:
        environ["CLICKPATH_STANDBY_REPLICAS"] = "1"
    if options.store == "rocksdb":
        environ |= {"CLICKPATH_STORE": "rocksdb", "CLICKPATH_STORE_DIR": f"{folder}/states"}
    return environ


def kept(mode: str, found: Mapping[str, Any]) -> bool:
    """Whether every promise was kept."""
    wrong = found["lost"] or found["not_decided"] or found["double"] or not found["state_equal"]
    return not (wrong or (mode == "transactional" and found["raw_duplicates"]))


def _broker(kind: str) -> EmbeddedBroker | ApacheKafka:
    return EmbeddedBroker() if kind == "embedded" else ApacheKafka()


async def _chaos(shop: Shop, crew: Crew, options: argparse.Namespace) -> dict[str, Any]:
    await shop.create_topics()
    kills, events_per_kill = options.kills, options.events_per_kill
    events = (kills + 1) * events_per_kill
    lines = lines_of(simulation.simulate(events, max(50, events // 20), seed=options.seed))
    expected = await Oracle(shop.settings).replay(lines)
    luck = random.Random(options.seed)
    recoveries: list[float] = []
    behind = 0
    try:
        await crew.start()
        for kill in range(kills):
            part = lines[kill * events_per_kill : (kill + 1) * events_per_kill]
            producing = asyncio.create_task(shop.produce(part, events_per_s=events_per_kill))
            await crew.handled(luck.uniform(0.05, 0.9) * len(part), behind)
            await crew.kill()
            killed_s = time.monotonic()
            await producing
            behind = shop.produced - await shop.committed()
            await crew.taken_over()
            recoveries.append(time.monotonic() - killed_s)
            print(
                f"kill {kill + 1} of {kills}: {behind} events uncommitted, "
                f"ready again after {recoveries[-1]:.1f} s",
                file=sys.stderr,
            )
            await crew.complete()
        await shop.produce(lines[kills * events_per_kill :])
        await shop.handled(await crew.complete(), timeout_s=600)
        if any(codes := await crew.stop()):
            raise FatalError(f"a worker did not stop in order: {codes}\n{shop.log()[-4000:]}")
    finally:
        await crew.end()
    return {"kills": kills, "events": len(lines), **await compared(shop, expected, recoveries)}


async def compared(shop: Shop, expected: Oracle, recoveries: list[float]) -> dict[str, Any]:
    """What lies on the topics, against what one process makes of the same events."""
    by_id = await shop.interventions()
    causes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for intervention_id, records in by_id.items():
        for record in records:
            sent = json.loads(record.value or b"")
            causes[sent["user_id"], sent["cause"]["event_id"]].add(intervention_id)
    return {
        "interventions": len(by_id),
        "lost": len(expected.ids - set(by_id)),
        "not_decided": len(set(by_id) - expected.ids),
        "double": sum(len(ids) > 1 for ids in causes.values()),
        "raw_duplicates": sum(len(records) - 1 for records in by_id.values()),
        "state_equal": await shop.state_hash() == expected.state_hash,
        "recovery_s_p50": round(statistics.median(recoveries), 2) if recoveries else None,
        "recovery_s_max": round(max(recoveries), 2) if recoveries else None,
    }


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Missing, FatalError) as error:
        sys.exit(f"make chaos: {error}")
