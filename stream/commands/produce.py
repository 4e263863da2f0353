"""`clickpath produce`: sends a file of clicks to a broker.

Without a key for pseudonyms a record is sent as it is, byte for byte. With one this is the edge:
what is sent are the events that a worker would read, in Clickpath's own form.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_TS_MS
from clickpath.logs import FORMATS, RawLine, read_log
from clickpath.pseudonym import Edge, behind
from clickpath.wire import click_to_json, parse
from stream.commands.arguments import add_brokers, add_rate, parser, print_result, settings_of
from stream.connection import Connection
from stream.producing import produce as produce_lines
from stream.wiring import make_edge


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
    lines: Iterable[RawLine] = read_log(Path(options.file), options.format)
    refused: Counter[str] = Counter()
    if settings.pseudonym_key_file:
        lines = behind_the_edge(lines, make_edge(settings), refused)
    result = send_with_progress(lines, settings.connection, settings.clicks_topic, options.rate)
    print_result({**result, "refused": dict(sorted(refused.items()))}, as_json=options.json)
    if not result["events"] and not refused:
        raise UsageError(f"{options.file} holds no record")
    return 1 if refused else 0


def behind_the_edge(
    lines: Iterable[RawLine], edge: Edge, refused: Counter[str]
) -> Iterator[RawLine]:
    """Events of any form as canonical ones, with pseudonyms and without personal data.

    Args:
        lines: Records of a file.
        edge: Makes the pseudonyms.
        refused: Counts, by reason, what is no event; it is left out, since its bytes may hold ids.
    """
    for line in lines:
        try:
            click = behind(edge, parse(line.value, line.headers, MAX_TS_MS))
        except BadEvent as error:
            refused[error.code] += 1
            continue
        yield RawLine(click.user_id.encode("utf-8"), click_to_json(click), (), line.where)


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
