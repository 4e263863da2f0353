"""`clickpath demo`: broker, worker and simulated shoppers on this machine, and an honest account.

Everything is real and runs over loopback: the embedded broker, a worker in a process of its own
with the shipped model, shoppers who also repeat, delay and break some of their events. At the end
the worker's own counts are held against what lies on the topics; a record that is not accounted
for makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from math import inf
from typing import Final

from stream.commands.arguments import parser
from stream.demo import Account, Demo, print_summary, run_demo

_TERMINATED: Final = 128 + signal.SIGTERM


def demo(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("demo", "Broker, worker and simulated shoppers, in one go.")
    arguments.add_argument("--events", type=int, default=20_000, help="default 20000")
    arguments.add_argument("--users", type=int, default=1_000, help="default 1000")
    arguments.add_argument("--seed", type=int, default=0, help="default 0")
    arguments.add_argument(
        "--rate", type=float, default=2_000.0, metavar="N", help="events a second; default 2000"
    )
    options = arguments.parse_args(argv)
    for name in ("events", "users", "rate"):
        if not 0 < getattr(options, name) < inf:
            arguments.error(f"--{name} is {getattr(options, name)}, must be above 0")
    demo = Demo(
        events=options.events,
        users=options.users,
        seed=options.seed,
        events_per_s=options.rate,
    )
    try:
        account = asyncio.run(_run(demo))
    except asyncio.CancelledError:
        return _TERMINATED
    print_summary(account)
    return 0 if account.complete else 1


async def _run(demo: Demo) -> Account:
    """Runs it so that broker and worker end with it, also when it is told to end."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await run_demo(demo)
