"""Settings of models that do not go together are refused before anything is asked or loaded."""

import pytest

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError
from stream.settings import load_settings
from stream.wiring import make_predictor


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"model_public_key_file": "key.pem"}, "CLICKPATH_MODEL_REPOSITORY"),
        ({"triton_url": "localhost:1", "incremental": "true"}, "'localhost:1'"),
        ({"triton_url": "localhost:1", "model": "mine"}, "'localhost:1' and CLICKPATH_MODEL is 'm"),
        ({"triton_ca_file": "ca.pem"}, "CLICKPATH_TRITON_CA_FILE is 'ca.pem', but .*_URL is not"),
        ({"triton_cert_file": "c.pem"}, "CLICKPATH_TRITON_CERT_FILE is 'c.pem', but"),
        ({"triton_key_file": "k.pem"}, "CLICKPATH_TRITON_KEY_FILE is 'k.pem', but"),
        ({"triton_server_name": "n"}, "CLICKPATH_TRITON_SERVER_NAME is 'n', but"),
        ({"triton_url": "h:1", "triton_server_name": "n"}, "for 'n', but without the file of the"),
        ({"triton_admin_key_file": "a"}, "CLICKPATH_TRITON_ADMIN_KEY_FILE is 'a', but"),
        ({"triton_version": "3"}, "CLICKPATH_TRITON_VERSION is 3, but"),
        ({"triton_model": "theirs"}, "CLICKPATH_TRITON_MODEL is 'theirs', but"),
    ],
)
def test_what_would_be_ignored_in_silence_is_refused(given: dict[str, str], named: str) -> None:
    settings = load_settings({f"CLICKPATH_{name.upper()}": of for name, of in given.items()})
    with pytest.raises(ConfigError, match=named):
        make_predictor(settings, Encoder(settings.window))


def test_a_worker_can_do_without_its_triton_for_a_while() -> None:
    environ = {"CLICKPATH_TRITON_URL": "localhost:1", "CLICKPATH_MODEL": "none"}
    settings = load_settings(environ)
    assert make_predictor(settings, Encoder(settings.window)) is None
