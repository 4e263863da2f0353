"""`clickpath repartition`: copies a topic so that all records of a user come to one partition."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import asdict

from stream.commands.arguments import add_brokers, parser, print_result, settings_of
from stream.repartition import Copied, repartition
from stream.settings import Settings


def repartition_topic(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("repartition", "Copy a topic, keyed by user, with the usual partitioner.")
    arguments.add_argument("--from", dest="source", required=True, metavar="TOPIC")
    arguments.add_argument("--to", dest="target", required=True, metavar="TOPIC")
    arguments.add_argument(
        "--by",
        choices=["user", "key"],
        default="user",
        help="key by the user in the event (default), or keep the records' keys",
    )
    arguments.add_argument(
        "--follow", action="store_true", help="go on after the present end, until told to stop"
    )
    add_brokers(arguments)
    options = arguments.parse_args(argv)
    settings = settings_of(bootstrap_servers=options.bootstrap_servers)
    copied = asyncio.run(
        _run(settings, options.source, options.target, options.by, follow=options.follow)
    )
    print_result(
        {"from": options.source, "to": options.target, "by": options.by, **asdict(copied)},
        as_json=options.json,
    )
    # Each has been logged with its place.
    return 1 if copied.unreadable else 0


async def _run(settings: Settings, source: str, target: str, by: str, *, follow: bool) -> Copied:
    stop = asyncio.Event() if follow else None
    if stop is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await repartition(
        settings.connection,
        source,
        target,
        group=f"{settings.app_id}-repartition-{source}-{target}",
        by="key" if by == "key" else "user",
        stop=stop,
    )
