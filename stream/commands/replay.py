"""`clickpath replay`: a file through the worker's handler, without a broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.logs import FORMATS, RawLine, read_log
from stream.batch.records import OutputRecord
from stream.collector import calm_collector
from stream.commands.arguments import parser, print_result, settings_of, wall_clock_ms
from stream.letters import text_of
from stream.replay import InterventionsHash, Replay
from stream.settings import Settings
from stream.wiring import make_handler, make_predictor

_FILES: Final = ("decisions", "interventions", "dead-letters", "late")


def replay(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parser("replay", "Run a file of clicks through the worker's handler.")
    arguments.add_argument("file", metavar="FILE", help="clicks, or a public log")
    arguments.add_argument(
        "--format", default="clickpath", choices=sorted(FORMATS), help="default: clickpath"
    )
    arguments.add_argument("--policy", metavar="FILE", help="default: the shipped policy")
    arguments.add_argument("--model", metavar="DIR", help="a model, `shipped` (default) or `none`")
    arguments.add_argument(
        "--out", metavar="DIR", help="write decisions and interventions as JSONL"
    )
    options = arguments.parse_args(argv)
    settings = settings_of(policy=options.policy, model=options.model)
    out = None if options.out is None else Path(options.out)
    calm_collector()
    try:
        result = asyncio.run(_replay(settings, Path(options.file), options.format, out))
    except OSError as error:  # Whatever is read has a message of its own.
        raise UsageError(f"cannot write to {out}: {error}") from error
    print_result(result, as_json=options.json)
    if not result["events_in"]:
        raise UsageError(f"{options.file} holds no record")
    if result["dead_letters"] == result["events_in"]:
        raise UsageError(
            f"no record of {options.file} is an event, perhaps for being of another --format"
        )
    return 0


async def _replay(
    settings: Settings, file: Path, format_name: str, out: Path | None
) -> dict[str, object]:
    encoder = Encoder(settings.window)
    predictor = make_predictor(settings, encoder)
    handler = make_handler(settings, predictor, encoder)
    interventions = InterventionsHash(settings.topics)
    begun_s = time.perf_counter()
    with ExitStack() as stack:
        writer = _Writer(stack, settings, out) if out is not None else None

        def emit(record: OutputRecord) -> None:
            if record.topic.startswith(settings.topics.of_kind("")):
                assert record.value is not None
                intervention_id = json.loads(record.value)["intervention_id"]
                interventions.add(record.topic, intervention_id, record.value)
            if writer is not None:
                writer.write(record)

        run = Replay(handler, wall_clock_ms, emit)
        try:
            await run.run(stack.enter_context(_Shown(read_log(file, format_name), file.name)))
        finally:
            if predictor is not None:
                await predictor.close()
    seconds = time.perf_counter() - begun_s
    return {
        **run.tally.summary(),
        "users": len(run.users),
        "state_hash": run.state_hash(),
        "interventions_hash": interventions.hexdigest(),
        "model": handler.digests.model,
        "policy": handler.digests.policy,
        "encoder": handler.digests.encoder,
        "seconds": round(seconds, 3),
        "events_per_s": round(run.tally.events_in / seconds) if seconds else 0,
    }


class _Writer:
    """Writes output records to a folder, a JSON line each."""

    def __init__(self, stack: ExitStack, settings: Settings, out: Path) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._files: dict[str, TextIO] = {
                name: stack.enter_context((out / f"{name}.jsonl").open("w", encoding="utf-8"))
                for name in _FILES
            }
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error}") from error
        topics = settings.topics
        self._names = {
            topics.decisions: "decisions",
            topics.dead_letter: "dead-letters",
            topics.late: "late",
        }

    def write(self, record: OutputRecord) -> None:
        name = self._names.get(record.topic, "interventions")
        if name in ("decisions", "interventions"):
            assert record.value is not None
            line = record.value.decode("utf-8")
        else:
            line = json.dumps(
                {
                    "key": text_of(record.key),
                    "value": text_of(record.value),
                    "headers": [[name, text_of(content)] for name, content in record.headers],
                }
            )
        self._files[name].write(line + "\n")


class _Shown:
    """Lines with a progress display on stderr while they are read."""

    def __init__(self, lines: Iterable[RawLine], name: str) -> None:
        self._lines = lines
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed:,} events"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(f"replay {name}", total=None)

    def __enter__(self) -> Iterator[RawLine]:
        self._progress.start()
        return self._iterate()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _iterate(self) -> Iterator[RawLine]:
        for n, line in enumerate(self._lines, start=1):
            if n % 5000 == 0:
                self._progress.update(self._task, completed=n)
            yield line
