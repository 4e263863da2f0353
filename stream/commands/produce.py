"""`clickpath produce`: sends a file of clicks to a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from clickpath.errors import UsageError
from clickpath.logs import FORMATS, RawLine, read_log
from stream.commands.arguments import add_brokers, add_rate, parser, print_result, settings_of
from stream.connection import Connection
from stream.producing import produce as produce_lines


def produce(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("produce", "Send a file of clicks to the clicks topic.")
    arguments.add_argument("file", metavar="FILE", help="clicks, or a public log")
    arguments.add_argument(
        "--format", default="clickpath", choices=sorted(FORMATS), help="default: clickpath"
    )
    add_brokers(arguments)
    arguments.add_argument("--topic", help="default: the settings' clicks topic")
    add_rate(arguments)
    options = arguments.parse_args(argv)
    settings = settings_of(bootstrap_servers=options.bootstrap_servers, clicks_topic=options.topic)
    lines = read_log(Path(options.file), options.format)
    result = send_with_progress(lines, settings.connection, settings.clicks_topic, options.rate)
    print_result(result, as_json=options.json)
    if not result["events"]:
        raise UsageError(f"{options.file} holds no record")
    return 0


def send_with_progress(
    lines: Iterable[RawLine], connection: Connection, topic: str, events_per_s: float | None
) -> dict[str, object]:
    """Sends lines with a progress display on stderr; what was sent, and how fast."""
    begun_s = time.perf_counter()
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn(f"to {topic}"),
        TextColumn("{task.completed:,} events"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=None)
        sent = asyncio.run(
            produce_lines(
                lines,
                connection,
                topic,
                events_per_s=events_per_s,
                progress=lambda count: progress.update(task, completed=count),
            )
        )
    seconds = time.perf_counter() - begun_s
    return {
        "topic": topic,
        "events": sent,
        "seconds": round(seconds, 3),
        "events_per_s": round(sent / seconds) if seconds else 0,
    }
