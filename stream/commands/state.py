"""`clickpath state`: the digest of all users' states, read from the changelog."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from clickpath.wire.state import UserState, load_user
from stream.commands.arguments import add_brokers, parser, print_result, settings_of
from stream.reading import read_topic
from stream.replay import hash_of_users
from stream.settings import Settings


def state(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser(
        "state", "The digest of all users' paths on the changelog; equals `replay`'s state_hash."
    )
    arguments.add_argument("action", choices=["hash"])
    add_brokers(arguments)
    options = arguments.parse_args(argv)
    settings = settings_of(bootstrap_servers=options.bootstrap_servers)
    users = asyncio.run(users_on_changelog(settings))
    print_result(
        {
            "topic": settings.topics.changelog,
            "users": len(users),
            "events": sum(user.path.tip.events for user in users.values()),
            "state_hash": hash_of_users(users.items()),
        },
        as_json=options.json,
    )
    return 0


async def users_on_changelog(settings: Settings) -> dict[bytes, UserState]:
    """The users' states as of the last commit, by user id in UTF-8.

    Raises:
        UsageError: No broker answers, or there is no changelog.
        StateError: A state that this version cannot read.
    """
    latest: dict[bytes, bytes] = {}
    async for record in read_topic(settings.connection, settings.topics.changelog, whole=True):
        assert record.key is not None
        if record.value is None:
            latest.pop(record.key, None)
        else:
            latest[record.key] = record.value
    window = settings.window
    return {key: load_user(raw, window) for key, raw in latest.items()}
