"""A refresh beside a full training: what it costs, what it forgets, what it gains.

The shop changes between two weeks: shoppers look through lists where they searched before, one
step of the checkout is gone, and everything costs a quarter more. A model is trained on the first
week, then refreshed on the second. Run: `python -m benchmarks.refresh [--events N] [--users N]`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from clickpath.cli import main as clickpath
from clickpath.events import Click
from clickpath.simulation import simulate
from clickpath.simulation.traffic import START_MS
from clickpath.wire import click_to_json

_WEEK_MS = 7 * 24 * 3_600_000


def changed(clicks: Iterator[Click]) -> Iterator[Click]:
    """The clicks as they would be in the shop of the second week."""
    for click in clicks:
        if click.action == "add_shipping_info":
            continue
        action = "view_item_list" if click.action == "search" else click.action
        items = tuple(
            item
            if item.price_cents is None
            else replace(item, price_cents=item.price_cents * 5 // 4)
            for item in click.items
        )
        yield replace(click, action=action, items=items)


def said(arguments: list[str]) -> dict[str, object]:
    """The JSON object that a command prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = clickpath(arguments)
    if code:
        sys.exit(code)
    record: dict[str, object] = json.loads(out.getvalue().splitlines()[-1])
    return record


def main() -> None:
    """Runs it and prints a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="of each week")
    parser.add_argument("--users", type=int, default=6_000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        weeks = [Path(folder) / f"week{number}.jsonl" for number in (1, 2)]
        first = simulate(options.events, options.users, 1)
        second = changed(simulate(options.events, options.users, 2, START_MS + _WEEK_MS))
        for path, clicks in zip(weeks, (first, second), strict=True):
            path.write_bytes(b"".join(click_to_json(click) + b"\n" for click in clicks))
        run, new = f"{folder}/run", f"{folder}/new"
        size = ["--epochs", str(options.epochs)]
        full = said(["train", "--corpus", str(weeks[0]), "--out", run, "--json", *size])
        fresh = said(["refresh", run, "--corpus", str(weeks[1]), "--out", new, "--json"])
    cost = fresh["seconds"] / full["loop_seconds"]
    print(f"{options.events:,} events a week, {options.users:,} users, one thread")
    print(f"training {full['loop_seconds']:.0f} s, refresh {fresh['seconds']:.0f} s: {cost:.1%}")
    rows = {}
    for week in ("old", "new"):
        for head, before in fresh["before"][week].items():
            after = fresh["after"][week][head]
            for name in ("auc", "log_loss", "hr@10"):
                # Of a list only the hits are told, of probabilities what they are good for.
                if name in before and (name != "hr@10" or "auc" not in before):
                    rows[f"{week}.{head}.{name}"] = (round(before[name], 4), round(after[name], 4))
                    print(f"{week:<4} {head:<14} {name} {before[name]:.4f} -> {after[name]:.4f}")
    print(json.dumps({"benchmark": "refresh", "cost": round(cost, 4), "figures": rows}))


if __name__ == "__main__":
    main()
