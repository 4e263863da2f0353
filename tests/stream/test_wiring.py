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
        ({"triton_url": "localhost:1", "model_repository": "versions"}, "inside the worker"),
        ({"triton_url": "localhost:1", "incremental": "true"}, "'localhost:1'"),
    ],
)
def test_what_would_be_ignored_in_silence_is_refused(given: dict[str, str], named: str) -> None:
    settings = load_settings({f"CLICKPATH_{name.upper()}": of for name, of in given.items()})
    with pytest.raises(ConfigError, match=named):
        make_predictor(settings, Encoder(settings.window))
