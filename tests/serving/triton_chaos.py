"""A worker under load while its Triton is killed, stopped, slowed down or flooded.

    python -m tests.serving.triton_chaos --seconds 20 --loads 20
    python -m tests.serving.triton_chaos --faults killed --loads 0

A fault begins after some seconds, lasts, and ends; then the worker is left until it has handled
everything. The last line is one JSON object, an entry for each fault:

    events, lost, twice   what was produced; events whose decision is missing, or is there twice
    lag_s                 from the end of the fault until nothing waited
    fallback_share        of all decisions; `reasons` says why
    calls_ratio           most calls to Triton in any two seconds, over the most before the fault
    retries               calls that were sent once more
    grown_mb              memory of the worker at the end, over that before the fault
    breaker               its state at the end

and for `loads`: how many new versions were loaded while calls went on, and how many calls failed.

The exit code is 1 if an event was lost or decided twice, if the lag did not go back to nothing or
the breaker did not close, if calls came at more than twice the usual rate, if the memory grew by
more than 60 MB, or if a call failed while versions were loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clickpath import simulation
from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import PredictorError
from clickpath.logs import RawLine
from clickpath.window import Window
from serving.embedded import shipped_model
from serving.local_server.server import LocalServer
from serving.repository.config import ServingPlan
from serving.repository.versions import add_version
from serving.triton.address import Address
from serving.triton.channel import Channel
from serving.triton.client import CallFailed, Slot, VersionClient, loaded_version
from serving.triton.loading import load_model
from serving.triton.predictor import connect
from stream.batch.records import OutputRecord
from stream.broker import EmbeddedBroker
from stream.commands.arguments import wall_clock_ms
from stream.process import WorkerProcess
from stream.replay import Replay
from stream.wiring import make_handler
from tests.promises.shop import Shop, lines_of
from tests.serving.proxy import Proxy

_SAMPLE_S = 0.2

#: Events for the time after a fault, until the circuit breaker has closed.
_SPARE = 4_000
_EVENTS_PER_S = 600

#: Less than a queue without an end would take in these seconds.
MOST_GROWN_MB = 60.0

#: Over how long calls are counted: within a second the worker's chunks come unevenly.
_WINDOW_S = 2.0


@dataclass(slots=True)
class Parts:
    """What a fault may touch."""

    server: LocalServer
    proxy: Proxy


Fault = Callable[[Parts], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(parts: Parts) -> AsyncIterator[None]:
    """`kill -9`, and a new server on the same port at the end."""
    parts.server.signal(signal.SIGKILL)
    await asyncio.to_thread(parts.server.stop)
    yield
    await asyncio.to_thread(parts.server.start)


@asynccontextmanager
async def stopped(parts: Parts) -> AsyncIterator[None]:
    """SIGSTOP: connections stay, nobody answers."""
    parts.server.signal(signal.SIGSTOP)
    yield
    parts.server.signal(signal.SIGCONT)


@asynccontextmanager
async def slow(parts: Parts) -> AsyncIterator[None]:
    """Everything arrives half a second late."""
    parts.proxy.delay_s = 0.5
    yield
    parts.proxy.delay_s = 0.0


@asynccontextmanager
async def flooded(parts: Parts) -> AsyncIterator[None]:
    """Somebody else keeps the queue full."""
    address = Address(url=parts.server.url)
    loaded = await asyncio.to_thread(loaded_version, address, "clickpath", 0, wait_s=10)
    client = VersionClient(Channel(address), "clickpath", loaded)
    paths = np.ones((64, FEATURES, 50), dtype=np.int64)

    enough = asyncio.Event()

    async def ask() -> None:
        slot = Slot(["purchase"])
        while not enough.is_set():
            with contextlib.suppress(CallFailed):
                await client.infer(slot, paths, 10)

    askers = [asyncio.create_task(ask()) for _ in range(40)]
    yield
    # Each waits for its last answer: the server was seen to die when all gave up at once.
    enough.set()
    await asyncio.wait(askers)
    await client.close()


FAULTS: dict[str, Fault] = {
    "killed": killed,
    "stopped": stopped,
    "slow": slow,
    "flooded": flooded,
}


class Sample(NamedTuple):
    """What a worker's pages say."""

    at_s: float
    calls: float
    retries: float
    lag: float
    breaker: str
    resident_mb: float


async def suffer(name: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Runs a worker through one fault.

    Args:
        name: Of the fault.
        seconds: How long the time before it, it itself, and the time after it last, each.
        folder: Empty.
    """
    repository = folder / "repository"
    plan = ServingPlan(backend="python", max_queue=8 if name == "flooded" else 256)
    add_version(repository, shipped_model(), plan)
    count = int(3 * seconds * _EVENTS_PER_S)
    lines = lines_of(simulation.simulate(count + _SPARE, max(50, count // 20), seed=5))
    with (
        EmbeddedBroker() as broker,
        LocalServer(repository, ["clickpath"]) as server,
        Proxy(server.url) as proxy,
    ):
        environ = {"CLICKPATH_TRITON_URL": proxy.url, "CLICKPATH_PREDICT_DEADLINE_S": "1"}
        shop = Shop(broker.bootstrap_servers, folder, environ)
        await shop.create_topics()
        worker = shop.worker()
        await worker.start()
        try:
            await worker.wait_ready(90)
            samples: list[Sample] = []
            watching = asyncio.create_task(_watch(worker, samples))
            producing = asyncio.create_task(shop.produce(lines[:count], _EVENTS_PER_S))
            await asyncio.sleep(seconds)
            begun_s = time.monotonic()
            async with FAULTS[name](Parts(server, proxy)):
                await asyncio.sleep(seconds)
            ended_s = time.monotonic()
            await producing
            await shop.handled(worker, timeout_s=240)
            await _until_closed(shop, lines[count:], samples)
            await shop.handled(worker, timeout_s=60)
            await _until_nothing_waits(samples)
            watching.cancel()
            page = await worker.samples()
        finally:
            await worker.kill()
        decisions = await shop.on(shop.settings.decisions_topic)
    decided = [cause(each.value) for each in decisions]
    expected = await due(lines[: shop.produced], folder)
    fallbacks = {reason: n for (metric, reason), n in page.items() if metric == "fallbacks_total"}
    return {
        "events": shop.produced,
        "lost": len(expected - set(decided)),
        "twice": len(decided) - len(set(decided)),
        "fallback_share": round(sum(fallbacks.values()) / max(len(decided), 1), 4),
        "reasons": {reason: int(n) for reason, n in fallbacks.items() if n},
        **_seen(samples, begun_s, ended_s),
    }


def _seen(samples: list[Sample], begun_s: float, ended_s: float) -> dict[str, Any]:
    before = [each for each in samples if each.at_s < begun_s]
    after = [each for each in samples if each.at_s >= begun_s]
    caught_up = [each.at_s for each in after if each.at_s >= ended_s and each.lag == 0]
    usual, most = _most_a_second(before), _most_a_second(after)
    return {
        "lag_s": round(caught_up[0] - ended_s, 1) if caught_up else None,
        "most_lag": int(max(each.lag for each in after)),
        "calls_a_second": round(usual, 1),
        "calls_ratio": round(most / max(usual, 1.0), 2),
        "retries": int(samples[-1].retries),
        "grown_mb": round(samples[-1].resident_mb - before[-1].resident_mb, 1),
        "breaker": samples[-1].breaker,
    }


def _most_a_second(samples: list[Sample]) -> float:
    """The most calls a second in any window."""
    most = 0.0
    for n, first in enumerate(samples):
        later = next((each for each in samples[n:] if each.at_s >= first.at_s + _WINDOW_S), None)
        if later is not None:
            most = max(most, (later.calls - first.calls) / (later.at_s - first.at_s))
    return most


async def _watch(worker: WorkerProcess, samples: list[Sample]) -> None:
    while True:
        page = await worker.samples()
        if page:

            def total(name: str, page: Any = page) -> float:
                return sum(value for (metric, _), value in page.items() if metric == name)

            states = [
                label for (name, label), on in page.items() if name == "triton_breaker" and on
            ]
            samples.append(
                Sample(
                    time.monotonic(),
                    total("triton_calls_total"),
                    total("triton_retries_total"),
                    total("lag_events"),
                    "".join(states),
                    _resident_mb(worker.pid),
                )
            )
        await asyncio.sleep(_SAMPLE_S)


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def _until_nothing_waits(samples: list[Sample]) -> None:
    """Waits until the worker itself says that it has caught up."""
    async with asyncio.timeout(60):
        while samples[-1].lag:  # noqa: ASYNC110 - the watcher tells nobody
            await asyncio.sleep(_SAMPLE_S)


async def _until_closed(shop: Shop, spare: Sequence[RawLine], samples: list[Sample]) -> None:
    """Sends more events, bit by bit: only a decision that is due makes the breaker's trial."""
    async with asyncio.timeout(120):
        for begin in range(0, len(spare), 40):
            await shop.produce(spare[begin : begin + 40])
            seen = len(samples)
            while len(samples) < seen + 2:  # noqa: ASYNC110 - the watcher tells nobody
                await asyncio.sleep(_SAMPLE_S)
            if samples[-1].breaker == "closed":
                return


async def due(lines: Sequence[RawLine], folder: Path) -> set[tuple[str, str]]:
    """The decisions that are due, by user and event: they do not depend on any model."""
    settings = Shop("127.0.0.1:9", folder, {"CLICKPATH_MODEL": "none"}).settings
    found: set[tuple[str, str]] = set()

    def emit(record: OutputRecord) -> None:
        if record.topic == settings.decisions_topic:
            found.add(cause(record.value))

    handler = make_handler(settings, None, Encoder(settings.window))
    await Replay(handler, wall_clock_ms, emit).run(lines)
    return found


def cause(decision: bytes | None) -> tuple[str, str]:
    said = json.loads(decision or b"")
    return said["user_id"], said["event_id"]


async def load_versions(loads: int, folder: Path) -> dict[str, Any]:
    """Loads one new version after the other while calls go on, and moves the calls to it."""
    repository = folder / "repository"
    plan = ServingPlan(backend="python", versions=2)
    add_version(repository, shipped_model(), plan)
    encoder = Encoder(Window())
    path = encoder.encode_steps(())
    path[0] = 1
    failed: list[str] = []
    answered = 0
    took_s: list[float] = []
    load_s: list[float] = []
    with LocalServer(repository, ["clickpath"]) as server:
        address = Address(url=server.url)
        predictors = [await asyncio.to_thread(connect, address, encoder)]
        done = asyncio.Event()

        async def ask() -> None:
            nonlocal answered
            while not done.is_set():
                begun_s = time.monotonic()
                try:
                    answered += len(await predictors[-1].predict([path] * 32, 30))
                except PredictorError as error:
                    failed.append(str(error))
                took_s.append(time.monotonic() - begun_s)

        askers = [asyncio.create_task(ask()) for _ in range(2)]
        for _ in range(loads):
            add_version(repository, shipped_model(), plan)
            begun_s = time.monotonic()
            await load_model(address, "clickpath")
            load_s.append(time.monotonic() - begun_s)
            predictors.append(await asyncio.to_thread(connect, address, encoder))
            assert predictors[-1].version == predictors[-2].version + 1
        done.set()
        await asyncio.gather(*askers)
        for predictor in predictors:
            await predictor.close()
    return {
        "loads": loads,
        "answered": answered,
        "failed": len(failed),
        "first_failure": failed[0] if failed else None,
        "slowest_call_s": round(max(took_s), 2),
        "load_s_max": round(max(load_s), 2),
    }


async def _main(faults: Sequence[str], seconds: float, loads: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in faults:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = await suffer(name, seconds, Path(folder))
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    if loads:
        with tempfile.TemporaryDirectory() as folder:
            found["loads"] = await load_versions(loads, Path(folder))
        print(f"loads: {found['loads']}", file=sys.stderr, flush=True)
    return found


def main(argv: Sequence[str]) -> int:
    """Runs it; see above for the exit code."""
    arguments = argparse.ArgumentParser(
        prog="python -m tests.serving.triton_chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--faults", nargs="*", choices=[*FAULTS], default=[*FAULTS])
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--loads", type=int, default=20)
    options = arguments.parse_args(argv)
    found = asyncio.run(_main(options.faults, options.seconds, options.loads))
    print(json.dumps(found))
    wrong = found.get("loads", {}).get("failed", 0) > 0
    return int(wrong or any(_broken(found[name]) for name in options.faults))


def _broken(fault: dict[str, Any]) -> bool:
    """Whether a promise was broken; see the beginning of this module."""
    lost = fault["lost"] + fault["twice"] > 0 or fault["lag_s"] is None
    storm = fault["calls_ratio"] > 2 or fault["breaker"] != "closed"
    return lost or storm or fault["grown_mb"] > MOST_GROWN_MB


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
