"""`clickpath archive`: writes accepted clicks and decisions from the topics to Parquet."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Final

from stream.archive.app import Archive, changelogs, create_archive, run_archive
from stream.archive.topics import create_changelogs
from stream.batch.worker import run
from stream.collector import calm_collector
from stream.commands.arguments import (
    add_brokers,
    parser,
    print_result,
    settings_of,
    wall_clock_ms,
)
from stream.log_lines import set_up_logging
from stream.settings import Settings

#: Whoever held standard input is gone, or waits: do not try for ever.
_PATIENCE_S: Final = 60.0


def archive(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("archive", "Write accepted clicks and decisions to Parquet.")
    arguments.add_argument(
        "--to", metavar="ADDRESS", help="folder or fsspec address (else CLICKPATH_ARCHIVE)"
    )
    add_brokers(arguments)
    until = arguments.add_mutually_exclusive_group()
    until.add_argument("--once", action="store_true", help="stop at the present end of the topics")
    until.add_argument(
        "--while-stdin",
        action="store_true",
        help="when standard input ends, go on to the end of the topics and stop",
    )
    options = arguments.parse_args(argv)
    settings = settings_of(archive=options.to, bootstrap_servers=options.bootstrap_servers)
    set_up_logging(settings, "archive")
    reader = create_archive(settings, wall_clock_ms)
    calm_collector()
    running = _run(settings, reader, once=options.once, while_stdin=options.while_stdin)
    code = run(running, tls=settings.connection.encrypted)
    print_result(reader.summary(), as_json=options.json)
    return code


async def _run(settings: Settings, reader: Archive, *, once: bool, while_stdin: bool) -> int:
    await create_changelogs(settings.connection, changelogs(settings))
    finish = asyncio.Event()
    if once:
        finish.set()
    if while_stdin:
        loop = asyncio.get_running_loop()
        threading.Thread(target=_wait_for_stdin, args=(loop, finish), daemon=True).start()
    return await run_archive(reader, finish, _PATIENCE_S if while_stdin else None)


def _wait_for_stdin(loop: asyncio.AbstractEventLoop, finish: asyncio.Event) -> None:
    # Not through sys.stdin: its lock would be held when the interpreter ends.
    while os.read(0, 4096):
        pass
    if not loop.is_closed():
        loop.call_soon_threadsafe(finish.set)
