"""A day of decisions of the worker's handler, each compared with the trainer's replay.

    python -m benchmarks.audit_decisions

The clicks of a simulated day, with copies, disorder and stragglers, go through `clickpath replay`,
which is the worker's own handler, and then with its decisions through `clickpath audit`. Ends with
an error when a single decision is encoded otherwise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peak import conditions, python

#: The simulated shop sees a shopper about this often on a day.
CLICKS_PER_SHOPPER = 12


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="audit_decisions", description=__doc__)
    parser.add_argument("--events", type=int, default=5_600_000)
    parser.add_argument("--model", default="none")
    given = parser.parse_args()
    print(f"{given.events:,} clicks, model {given.model}; {conditions()}", flush=True)
    with TemporaryDirectory() as folder:
        log, out = Path(folder) / "clicks.jsonl", Path(folder) / "out"
        users = given.events // CLICKS_PER_SHOPPER
        python("-m", "benchmarks.peak", str(log), str(given.events), str(users), "1")
        replayed = python(
            *("-m", "clickpath", "replay", str(log), "--model", given.model),
            *("--out", str(out), "--json"),
        )
        decisions = out / "decisions.jsonl"
        size_mb = decisions.stat().st_size / 1e6
        print(f"  the worker's handler: {replayed.seconds:,.0f} s, {size_mb:,.0f} MB", flush=True)
        audited = python(
            *("-m", "clickpath", "audit", str(log), "--decisions", str(decisions), "--json")
        )
    text, record = audited.stdout.splitlines()
    print(f"  {text}, peak {audited.peak_mb:,.0f} MB")
    handled = json.loads(replayed.stdout.splitlines()[-1])
    counts = {name: handled[name] for name in ("accepted", "duplicates", "late")}
    print(json.dumps({**json.loads(record), **counts, "peak_mb": round(audited.peak_mb)}))


if __name__ == "__main__":
    main()
