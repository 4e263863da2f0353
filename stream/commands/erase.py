"""`clickpath erase`: removes a user's state, marks the user as erased, and prints a receipt.

The workers do it, in the order of events: what lies on the clicks topic before the request is
forgotten, what comes behind it begins a new path. With `--archive` the rows of erased users are
dropped from the archive's files; without a user, those of all who were erased before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clickpath.erasure import mark_of, may_be_user
from clickpath.errors import UsageError
from stream.commands.arguments import add_brokers, parser, print_result, settings_of
from stream.erase import erase_user, kept_elsewhere
from stream.erasing import Receipt
from stream.settings import Settings
from stream.wiring import make_edge

if TYPE_CHECKING:
    from stream.archive.place import Place


def erase(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("erase", "Remove a user's state, and print a receipt.")
    arguments.add_argument("user", metavar="USER", nargs="?", help="the shop's id of the user")
    arguments.add_argument(
        "--archive", metavar="ADDRESS", help="also drop the rows of erased users from this archive"
    )
    arguments.add_argument(
        "--timeout-s",
        type=float,
        default=120.0,
        metavar="N",
        help="how long the workers may take for each of two steps; default 120",
    )
    add_brokers(arguments)
    options = arguments.parse_args(argv)
    if options.user is None and options.archive is None:
        arguments.error("name a user, or an archive with --archive ADDRESS")
    if not options.timeout_s > 0:
        arguments.error(f"--timeout-s is {options.timeout_s:g}, must be above 0")
    settings = settings_of(bootstrap_servers=options.bootstrap_servers)
    place = None if options.archive is None else _archive(options.archive)
    told: dict[str, object] = {}
    receipts: list[Receipt] = []
    if options.user is not None:
        if not may_be_user(options.user):
            raise UsageError(
                f"no user has the id {options.user!r}: it is empty, too long or no text"
            )
        user_id = _behind_the_edge(settings, options.user)
        receipts, kept = asyncio.run(_run(settings, user_id, options.timeout_s))
        told = _receipt(settings, user_id, receipts) | {"kept_elsewhere_ms": kept}
    if place is not None:
        told["archive"] = _forget(place, receipts)
    print_result(told, as_json=options.json)
    return 0


def _behind_the_edge(settings: Settings, user_id: str) -> str:
    """The id under which a user is known; an e-mail address too, from before those were refused."""
    return make_edge(settings)(user_id) if settings.pseudonym_key_file else user_id


async def _run(
    settings: Settings, user_id: str, timeout_s: float
) -> tuple[list[Receipt], dict[str, object]]:
    receipts = await erase_user(settings, user_id, timeout_s)
    return receipts, await kept_elsewhere(settings)


def _receipt(settings: Settings, user_id: str, receipts: Sequence[Receipt]) -> dict[str, object]:
    erased = [each for each in receipts if each.step == "erase"]
    if not erased:
        raise UsageError(
            f"there is no receipt on {settings.erasures_topic}: have the workers another topic, or "
            "an older version?"
        )
    last_ms = max(each.at_ms for each in receipts)
    return {
        "mark": mark_of(user_id),
        "erased_at": datetime.fromtimestamp(last_ms / 1000, UTC).isoformat(),
        "topic": settings.clicks_topic,
        "before_offset": {str(each.partition): each.offset for each in erased},
        "found_in": [each.partition for each in erased if each.found],
        "states": sum(each.found for each in erased),
        "events": sum(each.events for each in erased),
    }


def _archive(address: str) -> Place:
    """The archive at an address, before anybody is erased."""
    # Its libraries are loaded only where an archive is named.
    from stream.archive.place import Place
    from stream.archive.shelf import check_there

    place = Place(address)
    check_there(place)
    return place


def _forget(place: Place, receipts: Sequence[Receipt]) -> dict[str, object]:
    from stream.archive.forgetting import forget

    return {"address": place.address, **asdict(forget(place, receipts))}
