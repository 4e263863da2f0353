"""`clickpath topics create`: makes the topics that a worker needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka.errors import KafkaError

from clickpath.errors import UsageError
from stream.broker import TopicSpec, create_topics
from stream.commands.arguments import add_brokers, parser, print_result, settings_of


def topics(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("topics", "Make the topics that a worker needs; existing ones stay.")
    arguments.add_argument("action", choices=["create"])
    add_brokers(arguments)
    arguments.add_argument("--partitions", type=int, default=4, help="of each topic; default 4")
    arguments.add_argument("--replication-factor", type=int, default=1, help="default 1")
    options = arguments.parse_args(argv)
    if options.partitions < 1:
        arguments.error(f"--partitions is {options.partitions}, must be at least 1")
    if options.replication_factor < 1:
        arguments.error(f"--replication-factor is {options.replication_factor}, must be at least 1")
    settings = settings_of(bootstrap_servers=options.bootstrap_servers)
    specs = {
        name: TopicSpec(
            partitions=options.partitions,
            replication=options.replication_factor,
            config=config,
        )
        for name, config in settings.topics.configs().items()
    }
    try:
        created = asyncio.run(create_topics(settings.connection, specs))
    except KafkaError as error:
        raise UsageError(f"{settings.bootstrap_servers} refused: {error}") from error
    print_result(
        {"created": sorted(created), "existing": sorted(set(specs) - set(created))},
        as_json=options.json,
    )
    return 0
