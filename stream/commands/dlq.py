"""`clickpath dlq`: looks at dead letters, and sends them (repaired) again.

The way of a repair: `dlq list --out letters.jsonl` writes a JSON line for each dead letter; someone
mends the `value` of it; `dlq redrive letters.jsonl` sends the mended lines to the topic that they
came from. A line that is still no event is not sent, and said.

A letter may be about a batch that could not be read: a redrive sends its records if they can be
read by then, from a sound copy, say.

A letter may be by reference, because its bytes may be personal: then the list tells where the
original lies and shows nothing of it. `--originals` writes those that still lie there to the file,
and a redrive fetches what it sends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import SUPPRESS
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition

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
from stream.reading import StoredRecord, read_records, read_topic
from stream.settings import Settings

_SHOWN: Final = 20


def dlq(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("dlq", "Look at dead letters, and send them again.")
    actions = arguments.add_subparsers(dest="action", required=True, metavar="list|redrive")
    listing = actions.add_parser("list", help="what was refused, and why")
    listing.add_argument("--out", metavar="FILE", help="write each dead letter as a JSON line")
    listing.add_argument(
        "--originals",
        action="store_true",
        help="with --out: fetch what was left out, which may be personal data",
    )
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
    if options.action == "list" and options.originals and options.out is None:
        arguments.error("--originals goes with --out FILE")
    settings = settings_of(bootstrap_servers=options.bootstrap_servers)
    if options.action == "redrive" and options.file is not None:
        letters = list(_read(Path(options.file)))
    else:
        letters = asyncio.run(_letters(settings))
    letters = [each for each in letters if options.reason in (None, each.reason)]
    if options.action == "redrive" or options.originals:
        letters = asyncio.run(_with_originals(settings, letters))
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


async def _with_originals(settings: Settings, letters: Sequence[Letter]) -> list[Letter]:
    """The letters; those by reference with what lies at their origin, where it still does."""
    wanted: dict[TopicPartition, set[int]] = defaultdict(set)
    for letter in letters:
        if letter.left_out:
            topic, partition, _ = letter.origin
            wanted[TopicPartition(topic, partition)].update(letter.places)
    if not wanted:
        return list(letters)
    found = {
        (each.topic, each.partition, each.offset): each
        async for each in read_records(settings.connection, wanted)
    }
    return [one for each in letters for one in _originals(each, found)]


def _originals(
    letter: Letter, found: Mapping[tuple[str, int, int], StoredRecord]
) -> Iterator[Letter]:
    """The letter with its original; of a batch, one for each record that can be read by now."""
    topic, partition, _ = letter.origin
    there = [found.get((topic, partition, offset)) for offset in letter.places]
    if not letter.left_out or not any(there):
        yield letter
        return
    for each in there:
        if each is not None:
            origin = (topic, partition, each.offset)
            yield replace(
                letter,
                origin=origin,
                key=each.key,
                value=each.value,
                own_headers=each.headers,
                last_offset=None,
            )


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
        {
            "dead_letters": len(letters),
            "reasons": dict(sorted(reasons.items())),
            "left_out": sum(each.left_out for each in letters),
        },
        as_json=as_json,
    )
    return 0


def _redrive(settings: Settings, letters: Sequence[Letter], *, dry_run: bool, as_json: bool) -> int:
    lines: list[RawLine] = []
    refused: Counter[str] = Counter()
    for letter in letters:
        if letter.left_out and letter.value in (None, b""):
            refused["gone"] += 1
            print(
                f"{letter.where}  not sent: its original is gone, or cannot be read",
                file=sys.stderr,
            )
            continue
        try:
            click = parse(
                letter.value,
                letter.own_headers,
                wall_clock_ms(),
                settings.max_future_s * 1000,
            )
        except BadEvent as error:
            refused[error.code] += 1
            why = error.code if letter.left_out else error
            print(f"{letter.where}  not sent: {why}", file=sys.stderr)
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
