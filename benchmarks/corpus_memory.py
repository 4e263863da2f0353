"""Memory of the trainer's data path on a corpus and on one ten times as large.

    python -m benchmarks.corpus_memory

Each corpus is a JSONL log of the simulated shop, ten times the clicks of ten times the shoppers.
Measured is a process of its own that makes the data set and then reads one epoch of the training
part in random order, as the loop does; the peak of an idle process that has imported the same
modules stands beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peak import conditions, python

CLICKS_PER_SHOPPER = 50


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="corpus_memory", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    given = parser.parse_args()
    print(f"{given.events:,} and {10 * given.events:,} clicks; {conditions()}", flush=True)
    idle = python("-m", "benchmarks.corpus_memory_job")
    print(f"  imports alone {idle.peak_mb:,.0f} MB", flush=True)
    result: dict[str, float] = {"idle_peak_mb": round(idle.peak_mb)}
    with TemporaryDirectory() as folder:
        for times in (1, 10):
            events = times * given.events
            log = Path(folder) / f"{times}.jsonl"
            users = events // CLICKS_PER_SHOPPER
            python("-m", "benchmarks.peak", str(log), str(events), str(users), "1")
            ran = python(
                "-m", "benchmarks.corpus_memory_job", str(log), str(Path(folder) / str(times))
            )
            clicks, examples = map(int, ran.stdout.split())
            print(
                f"  {times:>2}x  {clicks:>11,} clicks  {examples:>9,} training examples  "
                f"peak {ran.peak_mb:,.0f} MB  {ran.seconds:,.0f} s  "
                f"{clicks / ran.seconds:,.0f} clicks/s",
                flush=True,
            )
            result |= {
                f"clicks_{times}x": clicks,
                f"peak_mb_{times}x": round(ran.peak_mb),
                f"seconds_{times}x": round(ran.seconds, 1),
            }
            log.unlink()
    result["peak_ratio"] = round(result["peak_mb_10x"] / result["peak_mb_1x"], 2)
    print(json.dumps(result))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
