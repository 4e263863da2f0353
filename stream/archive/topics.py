"""The archive's changelogs: made by the archive itself, as wide as the topics they follow."""

from __future__ import annotations

from collections.abc import Mapping

from clickpath.errors import UsageError
from stream.broker import TopicSpec, create_topics
from stream.clients import Admin
from stream.connection import Connection
from stream.refusals import started
from stream.topics import COMPACTED


async def create_changelogs(connection: Connection, changelogs: Mapping[str, str]) -> None:
    """Makes the changelogs that do not exist.

    Args:
        connection: The brokers.
        changelogs: By name, the topic that each one follows.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not make them.
        UsageError: A topic that is to be followed does not exist.
    """
    async with started(Admin(**connection.client_arguments()), connection) as admin:
        known = set(await admin.list_topics())
        for topic in changelogs.values():
            if topic not in known:
                raise UsageError(f"there is no topic {topic} at {connection.bootstrap_servers}")
        described = await admin.describe_topics(list(changelogs.values()))
    copies = {each["topic"]: each["partitions"] for each in described}
    await create_topics(
        connection,
        {
            name: TopicSpec(
                partitions=len(copies[topic]),
                # As safe as the topic that it follows.
                replication=max(len(each["replicas"]) for each in copies[topic]),
                config=COMPACTED,
            )
            for name, topic in changelogs.items()
        },
    )
