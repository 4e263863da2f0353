"""`clickpath simulate`: clicks of simulated shoppers, to a file or a broker."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from clickpath.errors import UsageError
from clickpath.events import Click
from clickpath.logs import RawLine
from clickpath.pseudonym import behind
from clickpath.simulation import simulate as simulate_clicks
from clickpath.wire import click_to_json
from stream.commands.arguments import add_rate, parser, print_result, settings_of
from stream.commands.produce import send_with_progress
from stream.wiring import make_edge


def simulate(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("simulate", "Clicks of simulated shoppers, to a file or a broker.")
    arguments.add_argument("--events", type=int, default=10_000, help="default 10000")
    arguments.add_argument("--users", type=int, default=500, help="default 500")
    arguments.add_argument("--seed", type=int, default=0, help="default 0")
    target = arguments.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", metavar="FILE", help="JSON lines; - is stdout")
    target.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="send to the clicks topic")
    add_rate(arguments)
    options = arguments.parse_args(argv)
    for name in ("events", "users"):
        if getattr(options, name) < 1:
            arguments.error(f"--{name} is {getattr(options, name)}, must be at least 1")
    clicks = simulate_clicks(options.events, options.users, options.seed)
    if options.out is None:
        settings = settings_of(bootstrap_servers=options.bootstrap_servers)
        if settings.pseudonym_key_file:
            edge = make_edge(settings)
            clicks = (behind(edge, click) for click in clicks)
        result = send_with_progress(
            lines_of(clicks), settings.connection, settings.clicks_topic, options.rate
        )
        print_result(result, as_json=options.json)
        return 0
    written = _write(clicks, options.out)
    if options.out != "-":
        print_result({"file": options.out, "events": written}, as_json=options.json)
    return 0


def lines_of(clicks: Iterable[Click]) -> Iterator[RawLine]:
    """Clicks as canonical JSON records, keyed by user."""
    for n, click in enumerate(clicks, start=1):
        yield RawLine(click.user_id.encode("utf-8"), click_to_json(click), (), f"simulation:{n}")


def _write(clicks: Iterable[Click], target: str) -> int:
    written = 0
    try:
        with nullcontext(sys.stdout.buffer) if target == "-" else Path(target).open("wb") as file:
            for click in clicks:
                file.write(click_to_json(click) + b"\n")
                written += 1
            file.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot write {target}: {error}") from error
    return written
