"""A trained model on disk: weights, configuration and fingerprints; no code, no pickles."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTIONS
from training.model import ModelConfig, PathModel

WEIGHTS_FILE: Final = "weights.safetensors"
CONFIG_FILE: Final = "config.json"
_FORMAT: Final = 1


def save_checkpoint(model: PathModel, encoder: Encoder, directory: Path) -> None:
    """Writes a model and what it must be used with."""
    config = {
        "format": _FORMAT,
        "encoder": encoder.fingerprint,
        "window": asdict(encoder.window),
        "actions": ACTIONS,
        "model": asdict(model.config),
    }
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS_FILE)
    text = json.dumps(config, indent=2)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_checkpoint(directory: Path, encoder: Encoder) -> PathModel:
    """The model in a directory, for paths of this encoder.

    Raises:
        ModelMismatch: There is none, it is of another form, or of another encoder.
    """
    path = directory / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found, fingerprint = config["format"], config["encoder"]
        sizes = ModelConfig(**config["model"])
    except OSError as error:
        raise ModelMismatch(f"there is no checkpoint at {directory}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelMismatch(f"{path} is no configuration of a model: {error}") from error
    if found != _FORMAT:
        raise ModelMismatch(f"{path} has format {found}, only {_FORMAT} is known")
    if fingerprint != encoder.fingerprint:
        raise ModelMismatch(
            f"the model in {directory} was trained with encoder {fingerprint}, "
            f"the encoder in use is {encoder.fingerprint}"
        )
    model = PathModel(sizes)
    try:
        model.load_state_dict(load_file(directory / WEIGHTS_FILE))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelMismatch(f"the weights in {directory} cannot be read: {reason}") from error
    return model.eval()
