"""`make soak MINUTES=20`: random actions against shops, for as long as asked.

    make soak MINUTES=20 BROKER=apache-kafka MODE=transactional STORE=rocksdb
    make soak SEED=17 ARGS="--pairs 1 --logs /tmp/soak"

Each pair of shops has a seed, which is printed; `SEED=N ARGS="--pairs 1"` does the same again. What
was done to a shop that fails is printed, with the times. The last line is one JSON object: what was
done and how often; `compared`, the shops that ended as one process demands; `ended_by_itself`,
workers that were fenced or lost their broker, and were started again; `variants`, decisions that a
crash repeated after the model had changed, beside the first record; and `failed`, the seeds of
shops that ended otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.promises.installation import Scorer
from tests.promises.random_actions import RandomActions
from tests.promises.stage import DONE

SCORERS: Final = get_args(Scorer)
STORES: Final = ("memory", "rocksdb")


def main(argv: Sequence[str]) -> int:
    """Runs it; 0 if every shop ended as one process does."""
    arguments = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--pairs", type=int, help="stop after so many")
    arguments.add_argument("--seed", type=int, default=1, help="of the first pair")
    arguments.add_argument("--broker", choices=["embedded", "apache-kafka"], default="embedded")
    arguments.add_argument(
        "--mode", choices=["at-least-once", "transactional"], default="at-least-once"
    )
    arguments.add_argument("--scorer", choices=SCORERS, action="append", help="one of them alone")
    arguments.add_argument("--store", choices=STORES, action="append", help="one of them alone")
    arguments.add_argument("--logs", type=Path, help="keep workers' logs of shops that fail here")
    options = arguments.parse_args(argv)
    if options.broker == "embedded" and options.mode == "transactional":
        arguments.error("the embedded broker has no transactions")
    made_of = {
        "BROKER": options.broker,
        "MODE": options.mode,
        "SCORERS": tuple(options.scorer or SCORERS),
        "STORES": tuple(options.store or STORES),
        "LOGS": options.logs,
    }
    begun_s = time.monotonic()
    failed: list[int] = []
    seed = options.seed
    while time.monotonic() - begun_s < 60 * options.minutes and (
        options.pairs is None or seed < options.seed + options.pairs
    ):
        if not _one(seed, made_of):
            failed.append(seed)
        seed += 1
        print(f"shops of seed {seed - 1}: {dict(DONE)}", file=sys.stderr)
    told = {"broker": options.broker, "mode": options.mode, "seed": options.seed}
    minutes = round((time.monotonic() - begun_s) / 60, 1)
    print(json.dumps({**told, "minutes": minutes, **dict(sorted(DONE.items())), "failed": failed}))
    return int(bool(failed))


def _one(seed: int, made_of: Mapping[str, object]) -> bool:
    chosen = settings(
        # The first one that hypothesis draws is the simplest there is, whatever the seed.
        max_examples=2,
        stateful_step_count=25,
        phases=[Phase.generate],
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(hypothesis.seed(seed)(_machine(made_of)), settings=chosen)
    except Exception:  # noqa: BLE001 - whatever is wrong is told, and the next shop opened
        traceback.print_exc()
        return False
    return True


def _machine(made_of: Mapping[str, object]) -> type[RandomActions]:
    """A class of its own: the seed is kept on it."""
    return type("Seeded", (RandomActions,), dict(made_of))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
