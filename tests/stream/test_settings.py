"""Settings: read once, strictly, and with messages that name the variable."""

import pytest

from clickpath.errors import ConfigError
from stream.settings import Settings, load_settings


def test_variables_with_the_prefix_are_settings_and_others_are_not() -> None:
    settings = load_settings(
        {"CLICKPATH_BOOTSTRAP_SERVERS": "kafka:9092", "CLICKPATH_LATENESS_S": "60", "HOME": "/"}
    )

    assert settings.bootstrap_servers == "kafka:9092"
    assert settings.window.lateness_ms == 60_000


def test_the_command_line_wins_and_what_it_does_not_give_stays() -> None:
    settings = load_settings({"CLICKPATH_MODEL": "none"}, model=None, policy="p.yaml")

    assert settings.model == "none"
    assert settings.policy == "p.yaml"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"CLICKPATH_BOOTSTRAP_SERVER": "x"},
            "CLICKPATH_BOOTSTRAP_SERVER is no setting; did you mean CLICKPATH_BOOTSTRAP_SERVERS?",
        ),
        ({"CLICKPATH_WEB_PORT": "70000"}, "CLICKPATH_WEB_PORT is '70000': "),
        ({"CLICKPATH_LATENESS_S": "soon"}, "CLICKPATH_LATENESS_S is 'soon': "),
        ({"CLICKPATH_APP_ID": "a b"}, "CLICKPATH_APP_ID is 'a b': "),
        ({"CLICKPATH_CLICKS_TOPIC": "a b"}, "CLICKPATH_CLICKS_TOPIC is 'a b': "),
        (
            {"CLICKPATH_OTLP_ENDPOINT": "collector:4318"},
            "CLICKPATH_OTLP_ENDPOINT is 'collector:4318': .* no address such as http://",
        ),
        ({"CLICKPATH_SESSION_TIMEOUT_S": "inf"}, "CLICKPATH_SESSION_TIMEOUT_S is 'inf': "),
    ],
)
def test_a_mistake_is_named_with_its_value(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message.replace("?", r"\?")):
        load_settings(environ)


@pytest.mark.parametrize(
    "servers", ["kafka", "kafka:9092", "a:1,b:2", "a:1, b:2", "10.0.0.1:65535", "[::1]:9092"]
)
def test_addresses_of_brokers_are_hosts_with_or_without_a_port(servers: str) -> None:
    assert load_settings({"CLICKPATH_BOOTSTRAP_SERVERS": servers}).bootstrap_servers == servers


@pytest.mark.parametrize(
    "servers",
    [
        "",
        ",",
        "a:1,",
        ":9092",
        "a:b",
        "a:0",
        "a:70000",
        "a:-1",
        "a:1;b",
        "kafka://a:1",
        "::1",
        "a b",
    ],
)
def test_what_is_no_address_of_a_broker_is_refused(servers: str) -> None:
    with pytest.raises(ConfigError, match=r"^CLICKPATH_BOOTSTRAP_SERVERS is .* is no host:port"):
        load_settings({"CLICKPATH_BOOTSTRAP_SERVERS": servers})


def test_two_topics_cannot_share_a_name() -> None:
    with pytest.raises(ConfigError, match=r"two topics have one name: .*clicks"):
        _ = load_settings({"CLICKPATH_LATE_TOPIC": "clicks"}).topics


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
