"""Paths a second, whole or followed step by step, side by side: a part of `make bench`.

For each size, on one thread, in calls of 1,024 paths, the most that a worker asks about at once,
whose users have all clicked once more:

    full         the predictor as a worker has it: the graph computes what the last step looks at
    incremental  the same with CLICKPATH_INCREMENTAL: every user is in the cache
    unpruned     the graph alone, without the predictor around it, that computes every step of a
                 path in every layer, as a decoder does that has not been prepared for serving

Whole paths run in batches of 64. Weights are random, which costs the same. Paths are encoded
beforehand. The ways take turns; the fastest round of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from clickpath.encoding import FEATURES, Encoder
from clickpath.steps import Step
from clickpath.window import Window
from serving.embedded import EmbeddedPredictor
from training.export import graph_of
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.model import PathModel
from training.package import write_package

_BATCH: Final = 64
_HEADS: Final = ("next_action", "purchase", "leave")

#: By name: width, steps of a path, and the widest attention that such a path has room for.
SIZES: Final = {"d64": (64, 32, 9), "d128": (128, 50, 18)}

Paths = list["array[int]"]


class Unpruned(nn.Module):
    """Every step through every layer; what is said after the last one."""

    def __init__(self, model: PathModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, paths: Tensor) -> tuple[Tensor, ...]:
        """Full paths (B, 6, T) -> the outputs that `serving.outputs` names."""
        states = self.model.states(paths)
        last = type(states)(*(each[:, -1] for each in states))
        action, *others = (self.model.say(name, last) for name in _HEADS)
        return (action.softmax(-1), *(other.sigmoid() for other in others))


def model_of(width: int, window: int) -> PathModel:
    """A model of two layers with random weights."""
    torch.manual_seed(1)
    draw = np.random.default_rng(1)
    tokens = Vocabulary(*(draw.integers(1, 2**62, count) for count in (2_000, 50)))
    config = ModelConfig(heads=_HEADS, width=width, hidden=2 * width, attention_window=window)
    return PathModel(config, tokens).eval()


def rounds_of(encoder: Encoder, count: int, rounds: int) -> Iterator[Paths]:
    """The paths of so many users with full windows, after each of some rounds of one click each."""
    draw = random.Random(1)
    steps = encoder.window.steps
    users: list[list[Step]] = [[] for _ in range(count)]
    for number in range(steps + rounds):
        for user in users:
            ts_ms = (user[-1].ts_ms if user else 1_700_000_000_000) + draw.randrange(60_000)
            item, category = draw.getrandbits(62), draw.getrandbits(62)
            event, action = draw.getrandbits(63), draw.randrange(1, 22)
            user.append(Step(ts_ms, event, action, item, category, draw.randrange(9_999), 0, ()))
            del user[:-steps]
        if number >= steps:
            yield [encoder.encode_steps(tuple(user)) for user in users]


def measured(
    width: int, steps: int, window: int, *, users: int, rounds: int
) -> dict[str, list[float]]:
    """Paths a second of each way, a figure a round."""
    encoder = Encoder(Window(steps=steps))
    model = model_of(width, window)
    example = torch.ones(_BATCH, FEATURES, steps, dtype=torch.int64)
    plain = _session(graph_of(Unpruned(model).eval(), {"paths": example}, _HEADS, [{}]))
    with TemporaryDirectory(prefix="clickpath-bench-") as folder:
        write_package(model, encoder, Path(folder), "make bench", {})
        full = EmbeddedPredictor(Path(folder), encoder)
        incremental = EmbeddedPredictor(Path(folder), encoder, cache_bytes=64 << 20)
    keys = [b"%d" % n for n in range(users)]
    rates: dict[str, list[float]] = {name: [] for name in ("full", "incremental", "unpruned")}

    def unpruned(paths: Paths) -> None:
        for start in range(0, users, _BATCH):
            raw = b"".join(paths[start : start + _BATCH])
            whole = np.frombuffer(raw, np.int64).reshape(_BATCH, FEATURES, steps)
            plain.run(None, {"paths": whole})

    async def take_turns() -> None:
        for number, paths in enumerate(rounds_of(encoder, users, rounds + 1)):
            spent_s = {
                "full": await _timed(full, paths, None),
                "incremental": await _timed(incremental, paths, keys),
                "unpruned": _seconds(unpruned, paths),
            }
            for name, each_s in spent_s.items():
                if number:  # the first round fills the cache and warms the others
                    rates[name].append(users / each_s)
        counts = incremental.cache_counts()
        assert counts is not None
        assert counts.hits == users * rounds
        await full.close()
        await incremental.close()

    asyncio.run(take_turns())
    return rates


async def _timed(predictor: EmbeddedPredictor, paths: Paths, keys: Sequence[bytes] | None) -> float:
    begun_s = time.perf_counter()
    await predictor.predict(paths, deadline_s=60.0, keys=keys)
    return time.perf_counter() - begun_s


def _seconds(run: Callable[[Paths], None], paths: Paths) -> float:
    begun_s = time.perf_counter()
    run(paths)
    return time.perf_counter() - begun_s


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_by_step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--users", type=int, default=1_024, help=f"in a call, a multiple of {_BATCH}"
    )
    given = parser.parse_args()
    users, rounds = given.users, given.rounds
    if users < _BATCH or users % _BATCH:
        parser.error(f"--users {users} is no multiple of {_BATCH}")
    load = os.getloadavg()[0]
    print(f"{rounds} rounds of {users:,} paths in turn, one thread, load {load:.1f} at the start")
    result: dict[str, dict[str, float]] = {}
    for name, (width, steps, window) in SIZES.items():
        rates = measured(width, steps, window, users=users, rounds=rounds)
        # A round takes some milliseconds: on a machine that others use as well, the median says
        # more of them than of the ways.
        best = {way: max(of) for way, of in rates.items()}
        result[name] = {f"{way}_eps": round(of) for way, of in best.items()}
        for way in ("full", "unpruned"):
            result[name][f"incremental_over_{way}"] = round(best["incremental"] / best[way], 2)
        print(f"  {name:<5} width {width}, {steps} steps, attention to {window}:", result[name])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
