"""A trained model on disk: weights, configuration and fingerprints; no code, no pickles."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch
from clickpath.vocabulary import ACTIONS
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel

WEIGHTS_FILE: Final = "weights.safetensors"
CONFIG_FILE: Final = "config.json"
_FORMAT: Final = 2

#: The names of the lookups' buffers, which hold the vocabulary.
_ITEMS: Final = "embed.items.tokens"
_CATEGORIES: Final = "embed.categories.tokens"


def save_checkpoint(model: PathModel, encoder: Encoder, directory: Path) -> None:
    """Writes a model and what it must be used with."""
    config = {
        "format": _FORMAT,
        "encoder": encoder.fingerprint,
        "window": asdict(encoder.window),
        "actions": ACTIONS,
        "model": asdict(model.config),
    }
    weights = {name: of.contiguous().cpu() for name, of in model.state_dict().items()}
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
        found, fingerprint, form = config["format"], config["encoder"], config["model"]
        if found != _FORMAT:
            raise ModelMismatch(f"{path} has format {found}, only {_FORMAT} is known")
        sizes = ModelConfig(**{**form, "heads": tuple(form["heads"])})
    except OSError as error:
        raise ModelMismatch(f"there is no checkpoint at {directory}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelMismatch(f"{path} is no configuration of a model: {error}") from error
    if fingerprint != encoder.fingerprint:
        raise ModelMismatch(
            f"the model in {directory} was trained with encoder {fingerprint}, "
            f"the encoder in use is {encoder.fingerprint}"
        )
    try:
        weights = load_file(directory / WEIGHTS_FILE)
        items, categories = (weights[name].numpy()[1:] for name in (_ITEMS, _CATEGORIES))
        model = PathModel(sizes, Vocabulary(items.astype(np.int64), categories.astype(np.int64)))
        model.load_state_dict(weights)
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelMismatch(f"the weights in {directory} cannot be read: {reason}") from error
    return model.eval()
