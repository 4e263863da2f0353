"""What the broker is asked before a worker starts, so that a wrong set-up is one sentence."""

# ruff: noqa: SLF001 - what aiokafka keeps private and the engine needs is used here
from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    NoError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from clickpath.errors import ConfigError
from stream.batch.group import ChangelogMismatch
from stream.clients import Admin
from stream.refusals import Denied, Unreachable, started

if TYPE_CHECKING:
    from stream.batch.app import BatchApp


#: How long a broker that has just started may name no broker, and how often it is asked.
_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.2


class NoTransactions(ConfigError):
    """The broker has no transactions, and the application wants them."""


class TopicMissing(ConfigError):
    """A topic that the worker reads or writes does not exist."""


async def check_broker(app: BatchApp, topics: Iterable[str] = ()) -> None:
    """Makes sure that topics are there, changelogs compacted, and transactions there if wanted.

    A topic that is missing, or that our user may not see, would otherwise be found out by the first
    record for it, or, if it is the one that is read, never.

    Args:
        app: The application; its changelogs are looked at in any case.
        topics: All other topics that have to be there.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not look at them.
        TopicMissing: One of the topics does not exist.
        ChangelogMismatch: A changelog does not exist, or loses states after a while.
        NoTransactions: The broker has none.
        KafkaError: The broker refuses to answer.
    """
    async with started(Admin(**app.client_settings()), app.connection) as admin:
        await until_brokers_are_named(admin._client, app.connection.bootstrap_servers)
        if app.transactional:
            await _check_transactions(admin, app)
        sources = app.batch_group.sources.values()
        changelogs = [table.changelog for source in sources for table in source.tables]
        for name, error in (await _states_of(admin, {*topics, *changelogs})).items():
            if error is TopicAuthorizationFailedError:
                raise error(name)
            if error is not NoError:
                kind = ChangelogMismatch if name in changelogs else TopicMissing
                what = "changelog" if name in changelogs else "topic"
                raise kind(f"the {what} {name} does not exist; `clickpath topics create` makes it")
        for changelog in changelogs:
            await _check_compacted(admin, changelog)


async def until_brokers_are_named(
    client: Any, servers: str, patience_s: float = _PATIENCE_S, look_s: float = _LOOK_S
) -> None:
    """Waits until a cluster says which brokers it has.

    One that has just started answers and names none for a moment, not even the one that answers; a
    consumer that begins in that moment fails for good.

    Args:
        client: An aiokafka client that has started.
        servers: Its brokers, for the message.
        patience_s: How long it may take.
        look_s: Between two questions.

    Raises:
        Unreachable: It has named none by then.
    """
    try:
        async with asyncio.timeout(patience_s):
            while not client.cluster.brokers():
                await client.force_metadata_update()
                await asyncio.sleep(look_s)
    except TimeoutError as error:
        raise Unreachable(
            f"what answers at {servers} has named no broker for {patience_s:g} s: "
            "the cluster is not up yet"
        ) from error


async def _states_of(admin: Any, names: Collection[str]) -> dict[str, type[Exception]]:
    """What the broker says of topics, without making them."""
    known = set(await admin.list_topics())
    found: dict[str, type[Exception]] = dict.fromkeys(known & set(names), NoError)
    if absent := sorted(set(names) - known):
        # Asked for by its name, one that our user may not see differs from one that is not there.
        request = MetadataRequest(absent, allow_auto_topic_creation=False)
        for each in (await admin._send_request(request)).to_object()["topics"]:
            found[each["topic"]] = for_code(each["error_code"])
    return found


async def _check_compacted(admin: Any, changelog: str) -> None:
    # All of its settings: some brokers do not understand a question after some of them.
    asked = ConfigResource(ConfigResourceType.TOPIC, changelog)
    [answer] = await admin.describe_configs([asked])
    [(code, message, _, _, entries)] = answer.resources
    if for_code(code) is TopicAuthorizationFailedError:
        raise Denied(
            f"the broker denies access to the settings of {changelog} (DescribeConfigs): an ACL is "
            "missing"
        )
    if code:
        raise for_code(code)(f"the settings of {changelog}: {message}")
    policy = {name: value for name, value, *_ in entries}.get("cleanup.policy", "delete")
    if policy != "compact":
        raise ChangelogMismatch(
            f"the changelog {changelog} has cleanup.policy={policy}, which loses the states of "
            "users who stay away; set it to compact (kafka-configs.sh --alter --entity-type topics "
            f"--entity-name {changelog} --add-config cleanup.policy=compact)"
        )


async def _check_transactions(admin: Any, app: BatchApp) -> None:
    # Without a transactional id it leaves no trace, and any broker can answer.
    request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
    try:
        answer = await admin._send_request(request)
        error = for_code(answer.error_code)
    except KafkaError as refused:
        error = type(refused)
    # One that is still starting says so; the real thing will be tried again until it can.
    if error is not NoError and not error.retriable:
        raise NoTransactions(
            f"the broker at {app.connection.bootstrap_servers} has no "
            "transactions (the embedded one has none): use Apache Kafka, or the delivery "
            "at-least-once"
        )
