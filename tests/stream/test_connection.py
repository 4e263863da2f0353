"""How brokers are reached: settings that do not go together are refused, never left out."""

from pathlib import Path

import pytest
import trustme

from clickpath.errors import ConfigError, UsageError
from stream.settings import load_settings


def environ(**values: str) -> dict[str, str]:
    return {f"CLICKPATH_{name.upper()}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"security_protocol": "TLS"}, r"CLICKPATH_SECURITY_PROTOCOL is 'TLS': "),
        ({"sasl_username": "me"}, r"is PLAINTEXT, which does not use CLICKPATH_SASL_USERNAME"),
        (
            {"security_protocol": "SSL", "sasl_mechanism": "PLAIN"},
            r"is SSL, which does not use CLICKPATH_SASL_MECHANISM \(PLAIN\)",
        ),
        ({"ssl_ca_file": "ca"}, r"is PLAINTEXT, which does not use CLICKPATH_SSL_CA_FILE"),
        (
            {"security_protocol": "SSL", "sasl_password_file": "p"},
            r"is SSL, which does not use CLICKPATH_SASL_PASSWORD_FILE",
        ),
        ({"security_protocol": "SASL_SSL"}, r"is SASL_SSL, which needs CLICKPATH_SASL_USERNAME"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "me"},
            r"is SASL_PLAINTEXT, which needs CLICKPATH_SASL_PASSWORD_FILE",
        ),
        (
            {"security_protocol": "SSL", "ssl_cert_file": "c"},
            r"CLICKPATH_SSL_CERT_FILE and CLICKPATH_SSL_KEY_FILE go together",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(environ(**values))


def test_a_connection_without_security_has_nothing_but_addresses() -> None:
    connection = load_settings(environ(bootstrap_servers="a:1, b:2")).connection

    assert connection.client_arguments() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


def test_the_password_is_the_files_content_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" se cret\n")
    values = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "me"}
    connection = load_settings(environ(**values, sasl_password_file=str(file))).connection

    assert connection.client_arguments()["sasl_plain_password"] == " se cret"
    assert "se cret" not in repr(connection)
    file.write_text("\n")
    with pytest.raises(UsageError, match=f"^CLICKPATH_SASL_PASSWORD_FILE {file} is empty$"):
        connection.client_arguments()
    file.unlink()
    with pytest.raises(UsageError, match=f"^cannot read CLICKPATH_SASL_PASSWORD_FILE {file}: "):
        connection.client_arguments()


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(ca)
    key.write_text("no key")
    values = {"security_protocol": "SSL", "ssl_ca_file": str(ca)}

    assert load_settings(environ(**values)).connection.client_arguments()["ssl_context"]
    wrong = load_settings(environ(**values | {"ssl_ca_file": str(key)})).connection
    with pytest.raises(UsageError, match=f"^CLICKPATH_SSL_CA_FILE {key} holds no certificates: "):
        wrong.client_arguments()
    both = {"ssl_cert_file": str(ca), "ssl_key_file": str(key)}
    wrong = load_settings(environ(**values, **both)).connection
    with pytest.raises(UsageError, match="are no certificate with its key: "):
        wrong.client_arguments()
