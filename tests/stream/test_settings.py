"""Settings: read once, strictly, and with messages that name the variable."""

import pytest

from clickpath.errors import ConfigError
from stream.idle_settings import idle_settings
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


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"CLICKPATH_COMMIT_INTERVAL_S": "30"},
            "CLICKPATH_UNREADY_AFTER_S is 15, but commits are CLICKPATH_COMMIT_INTERVAL_S = 30 s "
            "apart: /ready would fail between them",
        ),
        (
            {"CLICKPATH_STALLED_AFTER_S": "0.5"},
            "CLICKPATH_STALLED_AFTER_S is 0.5, but commits are CLICKPATH_COMMIT_INTERVAL_S = 1 s "
            "apart: /health would fail between them",
        ),
    ],
)
def test_a_probe_is_not_to_fail_between_two_commits(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        load_settings(environ)


@pytest.mark.parametrize(
    ("environ", "sentences"),
    [
        ({}, []),
        ({"MODEL": "none", "CACHE_MB": "256"}, []),
        ({"ARCHIVE": "a", "ARCHIVE_BUCKETS": "4", "INCREMENTAL": "1", "CACHE_MB": "64"}, []),
        (
            {"CACHE_MB": "64"},
            ["CLICKPATH_CACHE_MB is 64, without effect: CLICKPATH_INCREMENTAL is not set"],
        ),
        (
            {"ARCHIVE_BUCKETS": "4", "ARCHIVE_FLUSH_S": "60"},
            [
                "CLICKPATH_ARCHIVE_BUCKETS is 4, CLICKPATH_ARCHIVE_FLUSH_S is 60.0, without "
                "effect: CLICKPATH_ARCHIVE is not set"
            ],
        ),
        (
            {"MODEL": "none", "TRITON_URL": "triton:8001", "INCREMENTAL": "true"},
            [
                "CLICKPATH_TRITON_URL is 'triton:8001', CLICKPATH_INCREMENTAL is True, without "
                "effect: CLICKPATH_MODEL is 'none'"
            ],
        ),
    ],
)
def test_what_another_setting_leaves_without_effect_is_said(
    environ: dict[str, str], sentences: list[str]
) -> None:
    settings = load_settings({f"CLICKPATH_{name}": value for name, value in environ.items()})
    assert list(idle_settings(settings)) == sentences


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
