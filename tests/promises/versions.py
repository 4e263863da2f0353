"""Versions of a model for tests, and `clickpath models` as an operator calls it."""

import asyncio
import json
import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from clickpath.encoding import Encoder
from clickpath.window import Window
from serving.card import MODEL_FILE, read_card, write_card
from serving.embedded import shipped_model
from tests.promises.shop import Shop


def twin_of_shipped(folder: Path, name: str = "twin") -> Path:
    """The shipped model under another digest: the same scores, bit for bit."""
    shutil.copytree(shipped_model(), folder)
    graph = onnx.load(folder / MODEL_FILE)
    graph.doc_string = name
    return _sealed(folder, graph.SerializeToString())


def _sealed(folder: Path, graph: bytes) -> Path:
    (folder / MODEL_FILE).write_bytes(graph)
    digest = sha256(graph).hexdigest()
    write_card(read_card(folder).model_copy(update={"sha256": digest}), folder)
    return folder


async def models(shop: Shop, *arguments: str, fails: bool = False) -> dict[str, Any]:
    """Runs `clickpath models` in a process of its own; its answer, or its complaint."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clickpath", "models", *arguments, "--json"),
        env={
            **os.environ,
            **shop.environ,
            "CLICKPATH_BOOTSTRAP_SERVERS": shop.settings.bootstrap_servers,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    if fails:
        assert process.returncode, said
        return {"complaint": complaint.decode(), "said": said.decode()}
    assert process.returncode == 0, complaint.decode()
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def trained_on_shuffled_labels(folder: Path) -> Path:
    """A model that was trained in earnest, on labels that were dealt out among the paths anew."""
    from training.build import Recipe, build
    from training.corpus import Simulated
    from training.dataset import Part
    from training.form import ModelConfig
    from training.heads import vocabulary_of
    from training.labels import HEAD
    from training.model import PathModel
    from training.package import write_package
    from training.train import TrainConfig, train

    folder.mkdir()
    encoder = Encoder(Window())
    dataset = build(Simulated(8_000, 160, 3), folder / "examples", Recipe(), lambda _: None)
    luck = np.random.default_rng(3)
    shuffled = []
    for name in ("train", "valid"):
        every = dataset.part(name).whole()
        labels = {head: of.copy() for head, of in every.labels.items()}
        for head, of in labels.items():
            known = of != HEAD[head].unknown
            of[known] = luck.permutation(of[known])
        shuffled.append(Part.of(every.paths, labels, every.users))
    torch.manual_seed(3)
    config = ModelConfig(heads=("next_action", "purchase"))
    model = PathModel(config, vocabulary_of(shuffled[0], config))
    trained = train(model, *shuffled, TrainConfig(epochs=2, batch=32)).model
    write_package(trained, encoder, folder, "shuffled labels", {})
    return folder
