"""An Apache Kafka with users, TLS, client certificates and access rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stream.process import free_port
from tests.kafka.apache import ApacheKafka

_PASSWORD = "a secret"

#: Whoever comes by the plain listener may do everything: the tests' own hand.
_CONFIG = """\
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},{listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_SSL,\
CERTIFICATES:SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.users.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.certificates.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^.*CN=([a-z]+).*$/$1/,DEFAULT
"""


class Rule(NamedTuple):
    """What a user may do with what."""

    resource: str
    name: str
    operation: str


class Guarded:
    """A broker that knows `worker` and `operator`, and the files that clients need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {"users": free_port(), "certificates": free_port()}
        authority, other = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        other.cert_pem.write_to_path(folder / "other-ca.pem")
        _write_key(authority.issue_cert("127.0.0.1"), folder / "broker.pem")
        ours = authority.issue_cert("worker@clickpath.test", common_name="worker")
        ours.private_key_pem.write_to_path(folder / "key.pem")
        (folder / "cert.pem").write_bytes(b"".join(each.bytes() for each in ours.cert_chain_pems))
        (folder / "password").write_text(_PASSWORD + "\n")
        (folder / "wrong-password").write_text("a guess")
        scram = f"iterations=4096,password={_PASSWORD}"
        self.kafka = ApacheKafka(
            lambda node: _CONFIG.format(
                plain=node.port,
                controller=node.controller,
                folder=folder,
                listeners=",".join(
                    f"{name.upper()}://127.0.0.1:{port}" for name, port in self._ports.items()
                ),
            ),
            format_arguments=[
                part
                for user in ("worker", "operator")
                for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},{scram}]")
            ],
        )

    def environ(self, listener: str = "users", **changed: str) -> dict[str, str]:
        """The variables of a client that does everything right, but for what is changed."""
        values = {
            "bootstrap_servers": f"127.0.0.1:{self._ports[listener]}",
            "security_protocol": "SASL_SSL" if listener == "users" else "SSL",
            "ssl_ca_file": str(self.folder / "ca.pem"),
        }
        if listener == "users":
            values["sasl_username"] = "worker"
            values["sasl_password_file"] = str(self.folder / "password")
        else:
            values["ssl_cert_file"] = str(self.folder / "cert.pem")
            values["ssl_key_file"] = str(self.folder / "key.pem")
        return {f"CLICKPATH_{k.upper()}": v for k, v in {**values, **changed}.items() if v}

    def allow(self, principal: str, rules: Iterable[Rule]) -> None:
        """Lets a user do these things; a name that ends in `.` or `-` is a prefix."""
        bindings = [
            AclBinding(
                ResourceType[rule.resource],
                rule.name,
                ResourcePatternType.PREFIXED
                if rule.name.endswith((".", "-"))
                else ResourcePatternType.LITERAL,
                principal,
                "*",
                AclOperation[rule.operation],
                AclPermissionType.ALLOW,
            )
            for rule in rules
        ]
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        for done in admin.create_acls(bindings).values():
            done.result(timeout=30)


def documented_rules(page: Path) -> list[Rule]:
    """The rules that the page tells an operator to set for a worker."""
    found = []
    words = {"topic": "TOPIC", "group": "GROUP", "transactional": "TRANSACTIONAL_ID"}
    for resource, operations in re.findall(
        r"^\| ((?:topic|group|transactional).*?) \| ([A-Za-z, ]+) \|$",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    ):
        kind = next(value for word, value in words.items() if resource.startswith(word))
        for name in re.findall(r"`(.*?)`", resource):
            for operation in operations.split(", "):
                upper = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()
                found.append(Rule(kind, name, upper))
    return found


def _write_key(certificate: trustme.LeafCert, to: Path) -> None:
    """Key and chain in one file; Kafka reads keys of PKCS 8 only."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    to.write_bytes(pem + b"".join(each.bytes() for each in certificate.cert_chain_pems))
