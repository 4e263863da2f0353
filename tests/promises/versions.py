"""Versions of a model for tests, and `clickpath models` as an operator calls it."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from clickpath.encoding import Encoder
from clickpath.window import Window
from serving.card import MODEL_FILE
from serving.embedded import shipped_model
from serving.local_server.server import LocalServer
from serving.repository.config import ServingPlan
from serving.repository.folder import TritonFolder
from serving.repository.versions import add_version
from serving.versions import VersionFolder
from stream.models.record import Phase
from stream.models.topic import Known
from tests.promises.shop import Shop
from tests.serving.conftest import sealed, twin_of


def twin_of_shipped(folder: Path, name: str = "twin") -> Path:
    """The shipped model under another digest: the same scores, bit for bit."""
    return twin_of(shipped_model(), folder, name)


@dataclass(frozen=True)
class Site:
    """Where the versions of a shop's model are, and who runs them.

    Attributes:
        settings: Of a shop, by name.
        server: The tritonserver; None where each worker runs them itself.
    """

    settings: dict[str, str]
    server: LocalServer | None = None

    @property
    def directory_of(self) -> Callable[[str], Path]:
        """Finds the directory of a version."""
        folder = Path(self.settings["model_repository"])
        if self.server is None:
            return VersionFolder(folder).directory
        return TritonFolder(folder, "clickpath").directory

    async def add(self, shop: Shop, model: Path) -> str:
        """Adds the model in a directory, as an operator does; its version."""
        if self.server is None:
            return str((await models(shop, "add", str(model)))["version"])
        repository = self.settings["model_repository"]
        added = await clickpath(
            shop, "triton", "repository", repository, "--model", str(model), "--backend", "python"
        )
        return str(added["digest"])


@contextmanager
def own_folder(folder: Path) -> Iterator[Site]:
    """Versions that each worker runs itself."""
    yield Site({"model_repository": str(folder)})


@contextmanager
def on_triton(folder: Path) -> Iterator[Site]:
    """Versions on a real tritonserver, the shipped model first."""
    add_version(folder, shipped_model(), ServingPlan(backend="python"))
    with LocalServer(folder, ["clickpath"]) as server:
        yield Site({"model_repository": str(folder), "triton_url": server.url}, server)


def of_another_mind(folder: Path) -> Path:
    """The shipped model, which now sees purchases everywhere: it decides otherwise."""
    shutil.copytree(shipped_model(), folder)
    graph = onnx.load(folder / MODEL_FILE)
    [bias] = [each for each in graph.graph.initializer if each.name == "bias"]
    weights = numpy_helper.to_array(bias).copy()
    # Next action, purchase, leave: one number each for the last two.
    weights[-2] += 2.0
    bias.CopyFrom(numpy_helper.from_array(weights, "bias"))
    return sealed(folder, graph)


async def models(shop: Shop, *arguments: str, fails: bool = False) -> dict[str, Any]:
    """Runs `clickpath models` in a process of its own; its answer, or its complaint."""
    return await clickpath(shop, "models", *arguments, fails=fails)


async def known_of(shop: Shop) -> Known:
    """What the models topic says now, as `clickpath models status` reads it."""
    known = Known()
    for record in await shop.on(shop.settings.models_topic):
        known.take(record.key, record.value)
    return known


async def until_phase(shop: Shop, *phases: Phase) -> dict[str, Any]:
    """Waits until the rollout is in one of some phases; what `clickpath models status` says."""
    try:
        async with asyncio.timeout(120):
            phase = None
            while phase not in phases:
                standing = (await known_of(shop)).standing
                phase = standing.phase if standing is not None else None
    except TimeoutError:
        raise AssertionError(f"{await models(shop, 'status')}\n{shop.log()}") from None
    return await models(shop, "status")


async def clickpath(shop: Shop, *arguments: str, fails: bool = False) -> dict[str, Any]:
    """Runs a command in a process of its own; its answer, or its complaint."""
    code, said = await run_command(shop, *arguments)
    if fails:
        assert code, said
        return {"complaint": said}
    assert code == 0, said
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


async def run_command(shop: Shop, *arguments: str) -> tuple[int, str]:
    """Runs a command; its exit code, and what it said or complained of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clickpath", *arguments, "--json"),
        env={
            **os.environ,
            **shop.environ,
            "CLICKPATH_BOOTSTRAP_SERVERS": shop.settings.bootstrap_servers,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (complaint if process.returncode else said).decode()


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
    config = ModelConfig(heads=("next_action", "purchase", "leave"))
    model = PathModel(config, vocabulary_of(shuffled[0], config))
    trained = train(model, *shuffled, TrainConfig(epochs=2, batch=32)).model
    write_package(trained, encoder, folder, "shuffled labels", {})
    return folder
