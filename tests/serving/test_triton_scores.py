"""A model says the same in torch, as a graph in this process, and on a real tritonserver."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from clickpath.encoding import FEATURES, Encoder
from serving.batches import time_buckets
from serving.card import HEADS_FILE, MODEL_FILE, write_card
from serving.graph import Graph
from serving.local_server.server import LocalServer
from serving.outputs import output_names
from serving.repository.config import ServingPlan
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.channel import Channel
from serving.triton.client import Slot, VersionClient, loaded_version
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel
from training.package import write_package
from training.predict import outputs_of

MakePath = Callable[..., "array[int]"]

pytestmark = pytest.mark.triton

#: One head of each kind.
HEADS = ("next_action", "purchase", "leave", "next_item")


@pytest.fixture(scope="module")
def model() -> PathModel:
    torch.manual_seed(7)
    tokens = np.arange(1 << 50, (1 << 50) + 300)
    form = ModelConfig(heads=HEADS, width=64, hidden=128, dropout=0.0)
    made = PathModel(form, Vocabulary(tokens, tokens[:40])).eval()
    with torch.no_grad():  # far from the flat scores of a fresh model
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return made


@pytest.fixture(scope="module")
def directory(model: PathModel, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    card = write_package(model, encoder, folder, "a test", {})
    # Triton serves `model.onnx`: here with every head, so that each kind is compared.
    graph = (folder / HEADS_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(graph)
    card = card.model_copy(update={"heads": card.all_heads, "sha256": card.all_heads_sha256})
    write_card(card, folder)
    return folder


@pytest.fixture(scope="module")
def server(
    tritonserver: None, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("repository")
    add_version(repository, directory, ServingPlan(backend="python"))
    with LocalServer(repository, ["clickpath"]) as started:
        yield started


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
async def test_torch_graph_and_triton_agree_on_every_head(
    model: PathModel,
    directory: Path,
    server: LocalServer,
    encoder: Encoder,
    make_path: MakePath,
    rows: int,
) -> None:
    graph = Graph(directory, encoder)
    address = Address(url=server.url)
    client = VersionClient(
        Channel(address), "clickpath", loaded_version(address, "clickpath", 0, wait_s=9)
    )
    names = output_names(HEADS)
    compared = 0
    for length in time_buckets(encoder.window.steps):
        lengths = [1 + (n * 5 + length // 2) % length for n in range(rows)]
        encoded = [np.array(make_path(of, seed=n)) for n, of in enumerate(lengths)]
        whole = np.stack(encoded).reshape(rows, FEATURES, encoder.window.steps)
        paths = np.ascontiguousarray(whole[:, :, :length])
        with torch.inference_mode():
            states = model.states(torch.from_numpy(paths))
            last = torch.zeros((rows, length), dtype=torch.bool)
            last[torch.arange(rows), torch.tensor(lengths) - 1] = True
            trained = outputs_of(model, states.at(last))

        embedded = graph.run(paths)
        served = await client.infer(Slot(names), paths, 30)

        for name in names:
            if name.endswith("_token"):
                continue  # equally likely ones may stand in any order
            given = served[name].reshape(embedded[name].shape)
            assert np.abs(embedded[name] - trained[name]).max() < 1e-4
            assert np.abs(given - embedded[name]).max() < 1e-4
            assert given.std() > 0 or rows == 1
            compared += 1
    await client.close()

    assert compared == len(HEADS) * len(time_buckets(encoder.window.steps))
