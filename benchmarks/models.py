"""Paths a second of one model in this process and on Triton: the first part of `make bench`.

Two sizes with random weights, which are as fast as trained ones: d=64 with 32 steps, d=128 with 50
steps, two layers each. Calls have 1,024 full paths, as the worker's have at most. Both predictors
cut them as they do in a worker: the embedded one into batches of 64, which stay in the caches of a
core, the one for Triton into the 4 of 256 that may be in flight. The embedded one has one thread.
Triton is a real one on the loopback with two instances of the model on the Python backend, of one
thread each, once with both on one core (`triton_pps`: as much to compute with as the embedded one
has), once free (`triton_free_pps`). The engines take turns; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from clickpath.encoding import Encoder
from clickpath.steps import Step
from clickpath.vocabulary import ACTIONS
from clickpath.window import Window
from serving.embedded import EmbeddedPredictor
from serving.local_server.server import LocalServer
from serving.predictor import Predictor
from serving.repository.config import ServingPlan
from serving.repository.versions import DEFAULT_NAME, add_version
from serving.triton.address import Address
from serving.triton.predictor import connect
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel
from training.package import write_package

_PATHS = 1_024
_TOKENS = 2_000
_HEADS = ("next_action", "purchase", "leave")


class Size(NamedTuple):
    """The size of a model."""

    width: int
    steps: int


SIZES = (Size(64, 32), Size(128, 50))


def make_model(size: Size, directory: Path) -> Encoder:
    """Writes a model of a size, with random weights, and answers its encoder."""
    torch.manual_seed(1)
    tokens = np.arange(1 << 50, (1 << 50) + _TOKENS)
    form = ModelConfig(heads=_HEADS, width=size.width, hidden=2 * size.width, layers=2)
    encoder = Encoder(replace(Window(), steps=size.steps))
    model = PathModel(form, Vocabulary(tokens, tokens[:100])).eval()
    write_package(model, encoder, directory, "python -m benchmarks.models", {})
    return encoder


def make_paths(encoder: Encoder, count: int = _PATHS) -> list[array[int]]:
    """Full paths, each with its own steps."""
    steps = encoder.window.steps
    luck = np.random.default_rng(1)
    actions = luck.integers(1, len(ACTIONS), (count, steps)).tolist()
    items = luck.integers(1 << 50, (1 << 50) + _TOKENS, (count, steps)).tolist()
    return [
        encoder.encode_steps(
            tuple(
                Step(
                    ts_ms=1_700_000_000_000 + n * 20_000,
                    event=n,
                    action=actions[path][n],
                    item=items[path][n],
                    category=items[path][n] % 97,
                    price_cents=100 * n,
                    value_cents=0,
                    lines=(),
                )
                for n in range(steps)
            )
        )
        for path in range(count)
    ]


@contextmanager
def served(model: Path, folder: Path) -> Iterator[LocalServer]:
    """A real Triton with a model."""
    add_version(folder, model, ServingPlan(backend="python"))
    with LocalServer(folder, [DEFAULT_NAME]) as server:
        yield server


def hold_models_to(server: LocalServer, cores: set[int]) -> None:
    """Lets the processes in which a server runs its models use some cores only."""
    for children in Path(f"/proc/{server.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            for thread in Path(f"/proc/{child}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)


async def _rate(predictor: Predictor, paths: Sequence[array[int]], seconds: float) -> float:
    await predictor.predict(paths, 120)
    scored, begun_s = 0, time.perf_counter()
    while time.perf_counter() - begun_s < seconds:
        scored += len(await predictor.predict(paths, 120))
    return scored / (time.perf_counter() - begun_s)


async def _measured(size: Size, runs: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as repository:
        encoder = make_model(size, Path(model))
        paths = make_paths(encoder)
        with served(Path(model), Path(repository)) as server:
            triton = connect(Address(url=server.url), encoder)
            engines: dict[str, Predictor] = {
                "embedded": EmbeddedPredictor(Path(model), encoder),
                "triton": triton,
                "triton_free": triton,
            }
            cores = os.sched_getaffinity(0)
            rates: dict[str, list[float]] = {name: [] for name in engines}
            for turn in range(runs):
                names = list(engines)
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    hold_models_to(server, {min(cores)} if name == "triton" else cores)
                    rate = await _rate(engines[name], paths, seconds)
                    rates[name].append(rate)
                    print(f"  d={size.width} run {turn + 1} {name:<12} {rate:>8,.0f} paths/s")
            for predictor in engines.values():
                await predictor.close()  # twice for one of them, which does no harm
    return {name: statistics.median(each) for name, each in rates.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    given = parser.parse_args()
    print(
        f"calls of {_PATHS:,} paths, in batches of 64 embedded and of 256 on Triton,"
        f" {given.runs} runs in turn;"
        f" Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()},"
        f" load {os.getloadavg()[0]:.1f} before the start"
    )
    found: dict[str, Any] = {}
    for size in SIZES:
        rates = asyncio.run(_measured(size, given.runs, given.seconds))
        found[f"d{size.width}"] = {
            **{f"{name}_pps": round(rate) for name, rate in rates.items()},
            "triton_over_embedded": round(rates["triton"] / rates["embedded"], 2),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
