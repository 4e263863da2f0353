"""Events a second, side by side on one broker in one run: `make bench`.

The small job of `benchmarks.small_job` on plain Faust and on our batch path, then the whole worker
of `benchmarks.worker_job` on the same events, without and with the shipped model. Plain Faust and
the model get the first events only, because they are slow; the rate is what counts. Before them,
the speed of models by `benchmarks.models` and `benchmarks.step_by_step`, whose figures go into the
same JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
from functools import partial
from typing import Any

from benchmarks import small_job
from benchmarks.side_by_side import conditions, measure, report
from benchmarks.worker_job import run_worker_job
from stream.broker import EmbeddedBroker


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--plain-events", type=int, default=10_000)
    parser.add_argument("--model-events", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--models", metavar="PYTHON", help="a Python with torch, for the speed of models as well"
    )
    given = parser.parse_args()
    models: dict[str, Any] = {}
    if given.models:
        models["models"] = said_by(given.models, "benchmarks.models")
        for name, figures in said_by(given.models, "benchmarks.step_by_step").items():
            models["models"][name].update(figures)
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        size = asyncio.run(small_job.fill(servers, given.events))
        print(conditions(given.events, size, given.runs), flush=True)
        engines = {
            "plain_faust": partial(small_job.run_plain, servers, given.plain_events),
            "batch_path": partial(small_job.run_batch, servers, given.events),
            "worker_no_model": partial(run_worker_job, servers, given.events, model="none"),
            "worker_model": partial(run_worker_job, servers, given.model_events, model="shipped"),
        }
        rates = measure(engines, given.runs)
    report(
        rates,
        "worker_no_model",
        broker="embedded",
        events=given.events,
        plain_events=given.plain_events,
        model_events=given.model_events,
        runs=given.runs,
        **models,
    )


def said_by(python: str, module: str) -> Any:
    """What a benchmark answers in its last line, run by another Python."""
    command = [python, "-m", module]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for last in process.stdout:
            print(last, end="", flush=True)
    if process.returncode != 0:
        raise SystemExit(f"{module} ended with code {process.returncode}")
    return json.loads(last)


if __name__ == "__main__":
    main()
