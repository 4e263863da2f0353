"""`clickpath pseudonym`: the pseudonyms of users, for whoever has the key."""

from __future__ import annotations

from collections.abc import Sequence

from clickpath.erasure import may_be_user
from clickpath.errors import UsageError
from stream.commands.arguments import parser, print_result, settings_of
from stream.wiring import make_edge


def pseudonym(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("pseudonym", "Print the pseudonym of each user, by the configured key.")
    arguments.add_argument("users", metavar="USER", nargs="+", help="the shop's id of a user")
    options = arguments.parse_args(argv)
    settings = settings_of()
    if not settings.pseudonym_key_file:
        raise UsageError("there is no key for pseudonyms: set CLICKPATH_PSEUDONYM_KEY_FILE")
    for user in options.users:
        if not may_be_user(user):
            raise UsageError(f"no user has the id {user!r}: it is empty, too long or no text")
    edge = make_edge(settings)
    found = {user: edge(user) for user in options.users}
    if options.json:
        print_result({"pseudonyms": found}, as_json=True)
    else:
        print("\n".join(found.values()))
    return 0
