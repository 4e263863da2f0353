"""How brokers are reached and who we say we are; every client of the product is made of this.

What is set is used or refused: nobody who set a password or a certificate authority goes on in
plain text because the protocol was forgotten. Secrets are files, and are read when a client is
made.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from clickpath.errors import ConfigError, UsageError
from stream.unpacking import UNPACKED_BYTES

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_PREFIX: Final = "CLICKPATH_"


@dataclass(frozen=True, slots=True)
class Connection:
    """The brokers of one cluster, with what they ask for.

    Attributes:
        bootstrap_servers: Brokers, `host:port`, comma-separated.
        security_protocol: Whether connections are encrypted, and whether users have passwords.
        sasl_mechanism: How a password is proven; of use with SASL.
        sasl_username: The user; needed with SASL.
        sasl_password_file: File that holds the password; needed with SASL.
        ssl_ca_file: Certificates that sign those of the brokers, PEM; empty for the system's.
        ssl_cert_file: Our own certificate, PEM, where brokers ask for one; empty for none.
        ssl_key_file: Its key, PEM, without a passphrase.
        unpacked_bytes: The most that a batch of fetched records may unpack into.

    Raises:
        ConfigError: Settings that do not go together; names them.
    """

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password_file: str = ""
    ssl_ca_file: str = ""
    ssl_cert_file: str = ""
    ssl_key_file: str = ""
    unpacked_bytes: int = UNPACKED_BYTES

    def __post_init__(self) -> None:
        protocol = f"{_PREFIX}SECURITY_PROTOCOL is {self.security_protocol}"
        for wanted, names in (
            (self.has_users, ("sasl_username", "sasl_password_file")),
            (self.encrypted, ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")),
        ):
            for name in names:
                if getattr(self, name) and not wanted:
                    raise ConfigError(f"{protocol}, which does not use {_PREFIX}{name.upper()}")
        for name in ("sasl_username", "sasl_password_file") if self.has_users else ():
            if not getattr(self, name):
                raise ConfigError(f"{protocol}, which needs {_PREFIX}{name.upper()}")
        if self.sasl_mechanism != "SCRAM-SHA-512" and not self.has_users:
            raise ConfigError(
                f"{protocol}, which does not use {_PREFIX}SASL_MECHANISM ({self.sasl_mechanism})"
            )
        if bool(self.ssl_cert_file) != bool(self.ssl_key_file):
            raise ConfigError(f"{_PREFIX}SSL_CERT_FILE and {_PREFIX}SSL_KEY_FILE go together")

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def has_users(self) -> bool:
        """Whether connections begin with a user and a password."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def servers(self) -> list[str]:
        """The brokers, one an entry."""
        return [each.strip() for each in self.bootstrap_servers.split(",") if each.strip()]

    def client_arguments(self) -> dict[str, Any]:
        """What every aiokafka client is made with.

        Raises:
            UsageError: A file of a password, certificate or key cannot be used.
        """
        return {"bootstrap_servers": self.servers, **self.security_arguments()}

    def consumer_arguments(self) -> dict[str, Any]:
        """What every `stream.clients.Consumer` is made with.

        Raises:
            UsageError: A file of a password, certificate or key cannot be used.
        """
        return {**self.client_arguments(), "unpacked_bytes": self.unpacked_bytes}

    def security_arguments(self) -> dict[str, Any]:
        """The same without the addresses.

        Raises:
            UsageError: A file of a password, certificate or key cannot be used.
        """
        arguments: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.encrypted:
            arguments["ssl_context"] = self._ssl_context()
        if self.has_users:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self._password(),
            }
        return arguments

    def _password(self) -> str:
        try:
            password = Path(self.sasl_password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read {_PREFIX}SASL_PASSWORD_FILE {self.sasl_password_file}: {error}"
            ) from error
        if not password:
            raise UsageError(f"{_PREFIX}SASL_PASSWORD_FILE {self.sasl_password_file} is empty")
        return password

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_file or None)
        except OSError as error:
            raise UsageError(
                f"{_PREFIX}SSL_CA_FILE {self.ssl_ca_file} holds no certificates: {error}"
            ) from error
        if self.ssl_cert_file:
            try:
                # Without a terminal nobody can be asked for a passphrase.
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file, password=b"")
            except OSError as error:
                raise UsageError(
                    f"{_PREFIX}SSL_CERT_FILE {self.ssl_cert_file} and {_PREFIX}SSL_KEY_FILE "
                    f"{self.ssl_key_file} are no certificate with its key: {error}"
                ) from error
        return context
