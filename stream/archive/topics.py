"""The archive's changelogs: made by the archive itself, as wide as the topics they follow."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from clickpath.errors import UsageError
from stream.broker import TopicSpec, create_topics


async def create_changelogs(bootstrap_servers: str, changelogs: Mapping[str, str]) -> None:
    """Makes the changelogs that do not exist.

    Args:
        bootstrap_servers: The brokers.
        changelogs: By name, the topic that each one follows.

    Raises:
        UsageError: No broker answers, or it lacks a topic that is to be followed.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        known = set(await admin.list_topics())
        for topic in changelogs.values():
            if topic not in known:
                raise UsageError(f"there is no topic {topic} at {bootstrap_servers}")
        described = await admin.describe_topics(list(changelogs.values()))
    except KafkaConnectionError as error:
        raise UsageError(f"no broker answers at {bootstrap_servers}: {error}") from error
    finally:
        await admin.close()
    copies = {each["topic"]: each["partitions"] for each in described}
    await create_topics(
        bootstrap_servers,
        {
            name: TopicSpec(
                partitions=len(copies[topic]),
                # As safe as the topic that it follows.
                replication=max(len(each["replicas"]) for each in copies[topic]),
                config={"cleanup.policy": "compact"},
            )
            for name, topic in changelogs.items()
        },
    )
