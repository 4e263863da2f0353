"""Why a broker cannot be spoken to, or what it refuses, in one sentence for the operator."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from clickpath.errors import FatalError, UsageError
from stream.connection import Connection

#: How long one broker may take to tell why it cannot be spoken to.
_PATIENCE_MS: Final = 5_000

#: Errors that say that an access rule is missing, with what it is about.
_DENIED: Final[tuple[tuple[type[KafkaError], str], ...]] = (
    (TopicAuthorizationFailedError, "topic"),
    (GroupAuthorizationFailedError, "group"),
    (ClusterAuthorizationFailedError, "cluster"),
    (TransactionalIdAuthorizationFailed, "transactional id"),
)


class Unreachable(UsageError):
    """No broker could be spoken to; the message says why."""


class Denied(FatalError):
    """The broker lets our user not do this: an access rule (ACL) is missing."""


class _Client(Protocol):
    async def start(self) -> None: ...


C = TypeVar("C", bound=_Client)


@asynccontextmanager
async def started(client: C, connection: Connection) -> AsyncIterator[C]:
    """Starts an aiokafka client for the time of the context.

    Raises:
        Unreachable: No broker can be spoken to.
        Denied: The user may not do what was asked for in the context.
    """
    try:
        try:
            await client.start()
        except KafkaConnectionError as error:
            raise Unreachable(await why_unreachable(connection)) from error
        yield client
    except KafkaError as error:
        if (sentence := denied(error)) is None:
            raise
        raise Denied(sentence) from error
    finally:
        await stopped(client)


async def stopped(client: Any) -> None:
    """Stops an aiokafka client of any kind, also one that did not start."""
    await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def denied(error: BaseException) -> str | None:
    """The sentence about a missing access rule; None if the error is about something else."""
    for kind, what in _DENIED:
        if isinstance(error, kind):
            named = ", ".join(sorted(_names(error)))
            return (
                f"the broker denies access to the {what}{named and ' ' + named}: an ACL is missing"
            )
    return None


def _names(error: BaseException) -> set[str]:
    """What the error is about, as far as aiokafka tells: a name, or a set of them."""
    names: set[str] = set()
    for each in error.args:
        names |= {each} if isinstance(each, str) else set(map(str, each))
    return names


async def why_unreachable(connection: Connection) -> str:
    """Tries each broker once more and says what is in the way, at the first that says anything.

    aiokafka only logs it, and tells of its start that it cannot bootstrap.
    """
    sentence = f"no broker answers at {connection.bootstrap_servers}"
    arguments = connection.security_arguments()
    for host, port, _ in collect_hosts(connection.servers, randomize=False):
        address = f"{host}:{port}"
        try:
            link = await create_conn(host, port, request_timeout_ms=_PATIENCE_MS, **arguments)
            try:
                await link.send(MetadataRequest([]))
            finally:
                await link.close()
        except (KafkaError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            if (said := _said(error, address, connection)) is not None:
                return said
    return sentence


def _said(error: BaseException, address: str, connection: Connection) -> str | None:
    """What an attempt to connect tells; None if nobody is there."""
    if isinstance(error, SaslAuthenticationFailed):
        return (
            f"the broker at {address} does not take the user {connection.sasl_username!r} with "
            f"the password in {connection.sasl_password_file}: {error}"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"the broker at {address} does not know {connection.sasl_mechanism}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of the broker at {address} is not trusted "
            f"({error.verify_message}): see CLICKPATH_SSL_CA_FILE"
        )
    protocol = f"CLICKPATH_SECURITY_PROTOCOL is {connection.security_protocol}"
    asked = ""
    if connection.encrypted and not connection.ssl_cert_file:
        # With TLS 1.3 a broker that misses a certificate may just hang up.
        asked = "; a broker that asks for a certificate needs CLICKPATH_SSL_CERT_FILE"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with the broker at {address} ({error.reason}): {protocol}{asked}"
    if isinstance(error, TimeoutError):
        return f"the broker at {address} takes the connection and says nothing: {protocol}"
    if isinstance(error, ConnectionResetError | KafkaError):
        return f"the broker at {address} closes the connection: {protocol}{asked}"
    return None
