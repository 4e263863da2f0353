"""The demo: everything on this machine, real, and accounted for at the end."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from math import inf
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.errors import FatalError
from clickpath.logs import RawLine
from clickpath.policy import KINDS
from clickpath.simulation.faults import (
    with_broken,
    with_duplicates,
    with_stragglers,
)
from clickpath.wire import click_to_json
from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.connection import Connection
from stream.process import Samples, WorkerProcess
from stream.producing import produce
from stream.reading import read_topic
from stream.settings import PREFIX, Settings, load_settings

_PARTITIONS: Final = 4
_DUPLICATED: Final = 0.01
_BROKEN: Final = 0.005
_HELD_UP: Final = 0.002
_STALLED_AFTER_S: Final = 60.0

#: The embedded broker asks for nothing, whatever the environment says of another one.
_PLAIN: Final = {
    f"{PREFIX}{field.name.upper()}": str(field.default)
    for field in fields(Connection)
    if field.name in Settings.model_fields and field.name != "bootstrap_servers"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What is simulated: so many records of so many users, at a pace."""

    events: int
    users: int
    seed: int
    events_per_s: float


@dataclass(frozen=True, slots=True)
class Account:
    """How the demo ended.

    Attributes:
        result: Counts, speeds, latencies and digests, for the JSON line.
        problems: What does not add up, a sentence each; empty when every record is accounted for.
        first: The first intervention, as it lies on its topic; empty when there is none.
    """

    result: dict[str, object]
    problems: tuple[str, ...]
    first: str

    @property
    def complete(self) -> bool:
        """Whether every record is accounted for."""
        return not self.problems


async def run_demo(demo: Demo) -> Account:
    """Runs the demo from an empty broker to the account; shows its progress on stderr.

    Raises:
        FatalError: The broker or the worker did not come up, ended, or stalled.
    """
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="clickpath-demo-") as folder:
        console.print("[bold]1/5[/] embedded broker: starting, in memory, on loopback")
        with EmbeddedBroker() as broker:
            environ = {**os.environ, **_PLAIN}
            settings = load_settings(environ, bootstrap_servers=broker.bootstrap_servers)
            console.print(f"[bold]2/5[/] topics: creating at {broker.bootstrap_servers}")
            await create_topics(
                broker.connection,
                {
                    name: TopicSpec(partitions=_PARTITIONS, config=config)
                    for name, config in settings.topics.configs().items()
                },
            )
            console.print(
                f"[bold]3/5[/] worker: starting, with model {settings.model} and "
                f"policy {settings.policy or 'shipped'}"
            )
            worker = WorkerProcess(broker.bootstrap_servers, Path(folder) / "worker.log", _PLAIN)
            await worker.start()
            try:
                await worker.wait_ready(60)
                console.print(
                    f"[bold]4/5[/] shoppers: {demo.events:,} events of {demo.users:,} users, "
                    f"{demo.events_per_s:,.0f} a second; some repeated, late or broken"
                )
                seconds, samples = await _drive(demo, settings, worker, console)
                console.print("[bold]5/5[/] account: the worker's counts against the topics")
                account = await _account(demo, settings, seconds, samples)
                if exit_code := await worker.stop():
                    raise FatalError(f"the worker stopped with exit code {exit_code}")
            finally:
                await worker.kill()
    return account


def _lines(demo: Demo, settings: Settings) -> Iterator[RawLine]:
    """Exactly `demo.events` records: shoppers, and what goes wrong between them and a worker."""
    window = settings.window
    clicks = simulation.simulate(demo.events, demo.users, demo.seed)
    clicks = with_stragglers(clicks, _HELD_UP, 2 * window.lateness_ms, demo.seed)
    clicks = with_duplicates(clicks, _DUPLICATED, demo.seed)
    keys: list[bytes] = []

    def values() -> Iterator[bytes]:
        for click in islice(clicks, demo.events):
            keys.append(click.user_id.encode("utf-8"))
            yield click_to_json(click)

    for n, record in enumerate(with_broken(values(), _BROKEN, demo.seed), start=1):
        yield RawLine(keys.pop(), record.value, (), f"simulation:{n}")


async def _drive(
    demo: Demo, settings: Settings, worker: WorkerProcess, console: Console
) -> tuple[float, Samples]:
    """Sends everything and waits until the worker has handled it; seconds and last metrics."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    with Progress(
        TextColumn("    {task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
        sent = progress.add_task("sent", total=demo.events, note="")
        handled = progress.add_task("handled", total=demo.events, note="")
        producing = asyncio.create_task(
            produce(
                _lines(demo, settings),
                settings.connection,
                settings.clicks_topic,
                events_per_s=demo.events_per_s,
                progress=lambda count: progress.update(sent, completed=count),
            )
        )
        try:
            moved_s, before = loop.time(), -1
            while True:
                await asyncio.sleep(0.2)
                samples = await worker.samples()
                done = int(_total(samples, "events_total"))
                if done != before:
                    moved_s, before = loop.time(), done
                progress.update(handled, completed=done, note=_note(samples))
                if producing.done() and done >= demo.events:
                    break
                if producing.done() and producing.exception() is not None:
                    break
                if loop.time() - moved_s > _STALLED_AFTER_S:
                    raise FatalError(
                        f"the worker handled {done:,} of {demo.events:,} events and then nothing "
                        f"for {_STALLED_AFTER_S:.0f} s\n{worker.log_tail()}"
                    )
        finally:
            producing.cancel()
        await producing
    return loop.time() - begun_s, samples


def _note(samples: Samples) -> str:
    return (
        f"{_total(samples, 'decisions_total'):,.0f} decisions, "
        f"{_total(samples, 'interventions_total'):,.0f} interventions"
    )


def _by_label(samples: Samples, name: str) -> dict[str, int]:
    return {label: int(value) for (each, label), value in sorted(samples.items()) if each == name}


def _total(samples: Samples, name: str) -> float:
    return sum(value for (each, _), value in samples.items() if each == name)


@dataclass(frozen=True, slots=True)
class _OnTopics:
    """What lies on the topics at the end.

    Attributes:
        records: Number of records by topic.
        interventions: Number of interventions by kind.
        ids: Ids of the interventions.
        latencies_ms: From a cause on the broker to its intervention there.
        digests: Of model and policy, as the decisions tell them.
        first: When the first intervention reached its topic, and the intervention.
    """

    records: Counter[str]
    interventions: dict[str, int]
    ids: set[str]
    latencies_ms: list[int]
    digests: dict[str, str]
    first: tuple[float, bytes]


async def _read_topics(settings: Settings) -> _OnTopics:
    topics = settings.topics
    records: Counter[str] = Counter()
    interventions: Counter[str] = Counter()
    ids: set[str] = set()
    latencies_ms: list[int] = []
    digests: dict[str, str] = {}
    first = (inf, b"")
    for topic in (topics.decisions, topics.dead_letter, topics.late):
        async for record in read_topic(settings.connection, topic):
            records[topic] += 1
            if topic == topics.decisions and not digests:
                decision = json.loads(record.value or b"")
                digests = {name: decision[name] for name in ("model", "policy")}
    for kind in KINDS:
        async for record in read_topic(settings.connection, topics.of_kind(kind)):
            interventions[kind] += 1
            first = min(first, (record.timestamp_ms, record.value or b""))
            ids.add(json.loads(record.value or b"")["intervention_id"])
            cause_ms = int(dict(record.headers)["clickpath-cause-timestamp-ms"] or 0)
            latencies_ms.append(record.timestamp_ms - cause_ms)
    return _OnTopics(records, dict(interventions), ids, latencies_ms, digests, first)


async def _account(demo: Demo, settings: Settings, seconds: float, samples: Samples) -> Account:
    """Holds the worker's counts against what lies on the topics."""
    found = await _read_topics(settings)
    outcomes = _by_label(samples, "events_total")
    events_in = sum(outcomes.values()) - outcomes.get("skipped", 0)
    result: dict[str, object] = {
        "events_in": events_in,
        "accepted": outcomes.get("accepted", 0),
        "duplicates": outcomes.get("duplicate", 0),
        "late": outcomes.get("late", 0),
        "dead_letters": outcomes.get("dead_letter", 0),
        "dead_letter_reasons": _by_label(samples, "dead_letters_total"),
        "decisions": found.records[settings.topics.decisions],
        "decision_reasons": _by_label(samples, "decisions_total"),
        "interventions": found.interventions,
        "inference_calls": int(_total(samples, "inference_calls_total")),
        "inference_paths": int(_total(samples, "inference_paths_total")),
        "inference_avoided": _by_label(samples, "inference_avoided_total"),
        "fallbacks": _by_label(samples, "fallbacks_total"),
        "events_per_s": round(events_in / seconds, 1),
        "p50_ms": _percentile(found.latencies_ms, 50),
        "p99_ms": _percentile(found.latencies_ms, 99),
        "model": found.digests.get("model", ""),
        "policy": found.digests.get("policy", ""),
        "encoder": Encoder(settings.window).fingerprint,
        "broker": "embedded",
        "seconds": round(seconds, 3),
    }
    problems = tuple(_problems(demo, settings, samples, found, events_in))
    return Account(result, problems, found.first[1].decode("utf-8"))


def _problems(
    demo: Demo, settings: Settings, samples: Samples, found: _OnTopics, events_in: int
) -> Iterator[str]:
    """What does not add up, a sentence each."""
    topics = settings.topics
    outcomes = _by_label(samples, "events_total")
    sent = sum(found.interventions.values())
    counted = int(_total(samples, "interventions_total"))
    decided = int(_total(samples, "decisions_total"))
    for what, one, other in (
        ("events sent and handled", demo.events, events_in),
        (
            "dead letters counted and on the topic",
            outcomes.get("dead_letter", 0),
            found.records[topics.dead_letter],
        ),
        (
            "late events counted and on the topic",
            outcomes.get("late", 0),
            found.records[topics.late],
        ),
        ("decisions counted and on the topic", decided, found.records[topics.decisions]),
        ("interventions counted and on the topics", counted, sent),
        ("interventions and their different ids", sent, len(found.ids)),
    ):
        if one != other:
            yield f"{what}: {one:,} and {other:,}"


def _percentile(values: list[int], percent: int) -> int | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def print_summary(account: Account) -> None:
    """Prints the table, what does not add up, and the JSON line."""
    table = Table(title="Clickpath demo", show_header=False, title_justify="left")
    for name, value in account.result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count:,}" for key, count in value.items()) or "none"
        elif isinstance(value, int):
            value = f"{value:,}"
        table.add_row(name.replace("_", " "), str(value))
    console = Console()
    console.print(table)
    if account.first:
        console.print("The first intervention, as its consumers see it:")
        console.print_json(account.first, indent=None)
    if account.complete:
        console.print("Every event is accounted for.")
    for problem in account.problems:
        console.print(f"[bold red]not accounted for[/] {problem}")
    print(json.dumps(account.result))
