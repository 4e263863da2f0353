"""Events a second, side by side on one broker in one run: `make bench`.

The small job of `benchmarks.small_job` on plain Faust and on our batch path. Plain Faust gets the
first events only, because it is slow; the rate is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
from functools import partial

from benchmarks import small_job
from benchmarks.side_by_side import conditions, measure, report
from stream.broker import EmbeddedBroker


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--plain-events", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        size = asyncio.run(small_job.fill(servers, given.events))
        print(conditions(given.events, size, given.runs), flush=True)
        engines = {
            "plain_faust": partial(small_job.run_plain, servers, given.plain_events),
            "batch_path": partial(small_job.run_batch, servers, given.events),
        }
        rates = measure(engines, given.runs)
    report(rates, "batch_path", broker="embedded", events=given.events, runs=given.runs)


if __name__ == "__main__":
    main()
