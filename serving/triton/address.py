"""Where Triton is and how it is spoken to: target, channel, certificates, admin key."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from clickpath.errors import ConfigError

#: Triton asks for this header where it was started with
#: `--grpc-restricted-protocol=model-repository,...:admin-key=VALUE`.
ADMIN_HEADER: Final = "triton-grpc-protocol-admin-key"

_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")

_MESSAGE_LIMIT_BYTES: Final = 64 << 20

_CHANNEL: Final = (
    # A headless service has an address for each server: calls go to all of them in turn.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Retries are ours, inside the deadline and within a budget.
    ("grpc.enable_retries", 0),
    # A server that is back is found in seconds; gRPC's own bound is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Only while a call waits: servers turn away clients that ping an idle connection.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
    # A channel of its own, also where another one has the same target.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a Triton server, or several behind one name, are reached.

    Attributes:
        url: `host:port` of gRPC; a name with several addresses stands for as many servers. A
            target with a scheme of gRPC's is taken as it is.
        ca_file: Certificates that may vouch for the server, as PEM; None speaks without TLS.
        cert_file: Certificate that this side shows, as PEM, where the server asks for one.
        key_file: Its key.
        admin_key_file: Holds the key for loading and unloading models, on one line.
        name: That the servers' certificate is for, where it is not the one in the url.

    Raises:
        ConfigError: That is no address, a file cannot be read, or one is of no use without another.
    """

    url: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    admin_key_file: Path | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not (_HOST_AND_PORT.fullmatch(self.url) or self.url.startswith(_SCHEMES)):
            raise ConfigError(f"{self.url!r} is no host:port of Triton's gRPC")
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigError("a client certificate for Triton needs both, its file and its key's")
        if self.cert_file is not None and self.ca_file is None:
            raise ConfigError("a client certificate for Triton needs the file of the CA as well")
        if self.name is not None and self.ca_file is None:
            raise ConfigError(
                f"Triton's certificate is to be for {self.name!r}, but without the file of the CA "
                "none is asked for"
            )
        for path in (self.ca_file, self.cert_file, self.key_file, self.admin_key_file):
            if path is not None:
                _read(path)

    @property
    def target(self) -> str:
        """What gRPC resolves."""
        return self.url if self.url.startswith(_SCHEMES) else f"dns:///{self.url}"

    def servers(self) -> list[Address]:
        """Each server behind the name, by an address of its own; waits for the name's resolution.

        A name that cannot be resolved stands for itself: whoever asks it learns why.
        """
        targets, name = [self.url], self.name
        if self.url.startswith(("ipv4:", "ipv6:")):
            scheme, _, many = self.url.partition(":")
            targets = [f"{scheme}:{each}" for each in many.split(",")]
        elif found := _HOST_AND_PORT.fullmatch(self.url.rpartition("/")[2]):
            host, port = found[1].strip("[]"), self.url.rpartition(":")[2]
            with suppress(OSError):
                known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                addresses = sorted({str(each[4][0]) for each in known})
                targets = [
                    f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in addresses
                ]
                if self.ca_file is not None:
                    # A certificate is for the name.
                    name = self.name or host
        return [replace(self, url=target, name=name) for target in targets]

    def client_arguments(self) -> dict[str, Any]:
        """The arguments of a client of tritonclient's."""
        arguments: dict[str, Any] = {"url": self.target, "channel_args": list(_CHANNEL)}
        if self.name is not None:
            arguments["channel_args"].append(("grpc.ssl_target_name_override", self.name))
        if self.ca_file is not None:
            arguments |= {"ssl": True, "root_certificates": str(self.ca_file)}
        if self.cert_file is not None:
            arguments["certificate_chain"] = str(self.cert_file)
            arguments["private_key"] = str(self.key_file)
        return arguments

    def admin_headers(self) -> dict[str, str]:
        """The headers of a call that changes what the server serves."""
        if self.admin_key_file is None:
            return {}
        return {ADMIN_HEADER: _read(self.admin_key_file).strip()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}, which Triton is reached with: {error}") from error
