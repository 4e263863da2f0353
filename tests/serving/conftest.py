"""Models and paths for the tests of predictors."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import onnx
import pytest

from clickpath.encoding import Encoder
from clickpath.steps import UNKNOWN_PRICE, Step
from clickpath.vocabulary import ACTIONS
from clickpath.window import Window
from serving.card import MODEL_FILE, Card, read_card, write_card
from serving.local_server.server import LocalServer
from serving.repository.config import ServingPlan
from serving.repository.versions import DEFAULT_NAME, add_version

TINY_MODEL = Path(__file__).with_name("tiny_model.onnx")

#: Makes a path of so many steps; different seeds make different paths.
MakePath = Callable[..., "array[int]"]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(Window())


@pytest.fixture(scope="session")
def make_path(encoder: Encoder) -> MakePath:
    def make(length: int, seed: int = 0, slowness: int = 0) -> array[int]:
        steps = tuple(
            Step(
                ts_ms=1_700_000_000_000 + n * 1_000,
                event=n,
                action=1 + (n * 7 + seed) % len(ACTIONS),
                item=slowness or (1 << 50) + seed * 1_000 + n,
                category=0,
                price_cents=UNKNOWN_PRICE if n % 3 else 100 * (seed + 1) + n,
                value_cents=0,
                lines=(),
            )
            for n in range(length)
        )
        return encoder.encode_steps(steps)

    return make


def tiny_card(encoder: Encoder) -> Card:
    return Card(
        name="tiny",
        sha256=sha256(TINY_MODEL.read_bytes()).hexdigest(),
        encoder=encoder.fingerprint,
        actions=ACTIONS,
        steps=encoder.window.steps,
        command="python tests/serving/make_tiny_model.py",
    )


@pytest.fixture
def card(encoder: Encoder) -> Card:
    return tiny_card(encoder)


def write_tiny_model(directory: Path, encoder: Encoder) -> Path:
    shutil.copyfile(TINY_MODEL, directory / MODEL_FILE)
    write_card(tiny_card(encoder), directory)
    return directory


def twin_of(model: Path, folder: Path, name: str = "twin") -> Path:
    """A model under another digest: the same scores, bit for bit."""
    shutil.copytree(model, folder)
    graph = onnx.load(folder / MODEL_FILE)
    graph.doc_string = name
    return sealed(folder, graph)


def sealed(folder: Path, graph: onnx.ModelProto) -> Path:
    """Puts another graph into a model's directory, and its digest into the card."""
    (folder / MODEL_FILE).write_bytes(graph.SerializeToString())
    digest = sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    write_card(read_card(folder).model_copy(update={"sha256": digest}), folder)
    return folder


@pytest.fixture
def model_directory(tmp_path: Path, encoder: Encoder) -> Path:
    """The tiny model with its card, free to be changed."""
    return write_tiny_model(tmp_path, encoder)


@pytest.fixture(scope="session")
def tiny_triton(
    tritonserver: None, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    """A real tritonserver with the tiny model as version 1, for tests that only ask it."""
    model = write_tiny_model(tmp_path_factory.mktemp("model"), encoder)
    repository = tmp_path_factory.mktemp("repository")
    add_version(repository, model, ServingPlan(backend="python"))
    with LocalServer(repository, [DEFAULT_NAME]) as server:
        yield server
