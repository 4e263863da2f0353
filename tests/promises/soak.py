"""`make soak MINUTES=20`: random actions against a shop, for as long as asked.

    python -m tests.promises.soak --minutes 20 --seed 1 --broker embedded --mode at-least-once

Each pair of shops has a seed, which is printed; `--seed N --pairs 1` does the same again. The last
line is one JSON object: what was done and how often, `compared` shops that ended as one process
does, and `failed` ones with their seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.promises.random_actions import DONE, RandomActions


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
    options = arguments.parse_args(argv)
    if options.broker == "embedded" and options.mode == "transactional":
        arguments.error("the embedded broker has no transactions")
    os.environ |= {"PROVE_BROKER": options.broker, "PROVE_MODE": options.mode}
    begun_s = time.monotonic()
    failed: list[int] = []
    seed = options.seed
    while time.monotonic() - begun_s < 60 * options.minutes and (
        options.pairs is None or seed < options.seed + options.pairs
    ):
        if not _one(seed):
            failed.append(seed)
        seed += 1
        print(f"shops of seed {seed - 1}: {dict(DONE)}", file=sys.stderr)
    told = {"broker": options.broker, "mode": options.mode, "seed": options.seed}
    minutes = round((time.monotonic() - begun_s) / 60, 1)
    print(json.dumps({**told, "minutes": minutes, **dict(sorted(DONE.items())), "failed": failed}))
    return int(bool(failed))


def _one(seed: int) -> bool:
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
        run_state_machine_as_test(hypothesis.seed(seed)(_machine()), settings=chosen)
    except Exception:  # noqa: BLE001 - whatever is wrong is told, and the next shop opened
        traceback.print_exc()
        return False
    return True


def _machine() -> type[RandomActions]:
    """A class of its own: the seed is kept on it."""
    return type("Seeded", (RandomActions,), {})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
