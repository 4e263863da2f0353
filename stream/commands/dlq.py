"""`clickpath dlq`: looks at dead letters, and sends them (repaired) again.

The way of a repair: `dlq list --out letters.jsonl` writes a JSON line for each dead letter; someone
mends the `value` of it; `dlq redrive letters.jsonl` sends the mended lines to the topic that they
came from. A line that is still no event is not sent, and said.
"""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import SUPPRESS
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from clickpath.errors import BAD_EVENT_CODES, BadEvent, UsageError
from clickpath.logs import RawLine
from clickpath.wire import parse
from stream.commands.arguments import (
    add_brokers,
    parser,
    print_result,
    settings_of,
    wall_clock_ms,
)
from stream.letters import Letter, letter_from_json, letter_from_record
from stream.producing import produce
from stream.reading import read_topic
from stream.settings import Settings

_SHOWN: Final = 20


def dlq(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("dlq", "Look at dead letters, and send them again.")
    actions = arguments.add_subparsers(dest="action", required=True, metavar="list|redrive")
    listing = actions.add_parser("list", help="what was refused, and why")
    listing.add_argument("--out", metavar="FILE", help="write each dead letter as a JSON line")
    redriving = actions.add_parser("redrive", help="send dead letters again")
    redriving.add_argument(
        "file", nargs="?", metavar="FILE", help="mended lines of `dlq list --out`; default: all"
    )
    redriving.add_argument("--dry-run", action="store_true", help="only tell what would be sent")
    for action in (listing, redriving):
        add_brokers(action)
        action.add_argument(
            "--reason",
            choices=sorted(BAD_EVENT_CODES),
            metavar="CODE",
            help="only those with this reason",
        )
        # Before or after the action: what is not given here must not undo what was given there.
        action.add_argument("--json", action="store_true", default=SUPPRESS)
    options = arguments.parse_args(argv)
    settings = settings_of(bootstrap_servers=options.bootstrap_servers)
    if options.action == "redrive" and options.file is not None:
        letters = list(_read(Path(options.file)))
    else:
        letters = asyncio.run(_letters(settings))
    letters = [each for each in letters if options.reason in (None, each.reason)]
    if options.action == "list":
        out = None if options.out is None else Path(options.out)
        return _list(letters, out, as_json=options.json)
    return _redrive(settings, letters, dry_run=options.dry_run, as_json=options.json)


async def _letters(settings: Settings) -> list[Letter]:
    """The dead letters, each origin once: a crash may have sent one again."""
    letters: dict[tuple[str, int, int], Letter] = {}
    async for record in read_topic(settings.connection, settings.dead_letter_topic):
        letter = letter_from_record(record)
        letters.setdefault(letter.origin, letter)
    return list(letters.values())


def _list(letters: Sequence[Letter], out: Path | None, *, as_json: bool) -> int:
    if out is not None:
        lines = [json.dumps(each.to_json(), ensure_ascii=False) + "\n" for each in letters]
        try:
            out.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error}") from error
    elif not as_json:
        for letter in letters[:_SHOWN]:
            print(f"{letter.where}  {letter.reason:<18} {letter.error}")
        if len(letters) > _SHOWN:
            print(f"... and {len(letters) - _SHOWN} more; --out FILE writes all of them")
    reasons = Counter(each.reason for each in letters)
    print_result(
        {"dead_letters": len(letters), "reasons": dict(sorted(reasons.items()))}, as_json=as_json
    )
    return 0


def _redrive(settings: Settings, letters: Sequence[Letter], *, dry_run: bool, as_json: bool) -> int:
    lines: list[RawLine] = []
    refused: Counter[str] = Counter()
    for letter in letters:
        try:
            click = parse(
                letter.value,
                letter.own_headers,
                wall_clock_ms(),
                settings.max_future_s * 1000,
            )
        except BadEvent as error:
            refused[error.code] += 1
            print(f"{letter.where}  not sent: {error}", file=sys.stderr)
            continue
        assert letter.value is not None
        # Keyed by the user it is about now: the key of a broken record may have been wrong as well.
        lines.append(
            RawLine(click.user_id.encode("utf-8"), letter.value, letter.own_headers, letter.where)
        )
    if not dry_run:
        asyncio.run(produce(lines, settings.connection, settings.clicks_topic))
    print_result(
        {
            "topic": settings.clicks_topic,
            "sent": 0 if dry_run else len(lines),
            "would_send": len(lines) if dry_run else 0,
            "refused": refused.total(),
            "refused_reasons": dict(sorted(refused.items())),
        },
        as_json=as_json,
    )
    return 1 if refused else 0


def _read(file: Path) -> Iterator[Letter]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{file}:{number}"
                try:
                    fields: Any = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{where} is no JSON: {error}") from error
                yield letter_from_json(fields, where)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
