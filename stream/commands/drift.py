"""`clickpath drift`: how far events and scores on the topics are from the model's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

from clickpath.errors import BadEvent, FatalError, StateError, UsageError
from clickpath.steps import Step
from clickpath.wire import parse_arrival
from clickpath.wire.records import decision_from_json
from stream.commands.arguments import add_brokers, parser, print_result, settings_of, wall_clock_ms
from stream.drift import Drift
from stream.models.wiring import drift_of
from stream.reading import read_topic
from stream.settings import Settings
from stream.wiring import make_edge

_HOUR_MS: Final = 3_600_000

#: PSI from which much has changed; calibration that is off by as much.
_MUCH_PSI: Final = 0.25
_MUCH_GAP: Final = 0.1


class _Scored(NamedTuple):
    """What a drift needs of a decision."""

    user_id: str
    now_ms: int
    action: int
    purchase: float
    next_action: tuple[float, ...]


def drift(argv: Sequence[str]) -> int:
    """Runs the command; exit code 1 with `--check` when much has changed."""
    arguments = parser(
        "drift", "How far events and scores on the topics are from the model's reference."
    )
    add_brokers(arguments)
    arguments.add_argument("--model", metavar="DIR", help="a model, or `shipped` (default)")
    arguments.add_argument(
        "--hours", type=float, default=24.0, metavar="H", help="only the newest; default 24"
    )
    arguments.add_argument(
        "--check", action="store_true", help="exit code 1 when a PSI is above 0.25, or calibration"
    )
    options = arguments.parse_args(argv)
    if not options.hours > 0:
        raise UsageError(f"--hours is {options.hours:g}, must be above 0")
    settings = settings_of(bootstrap_servers=options.bootstrap_servers, model=options.model)
    since_ms = wall_clock_ms() - int(options.hours * _HOUR_MS)
    result = asyncio.run(_drift(settings, since_ms))
    print_result(result, as_json=options.json)
    if options.check and (much := _much(result)):
        raise FatalError(f"much has changed: {', '.join(much)}")
    return 0


def _much(result: dict[str, object]) -> list[str]:
    return [
        f"{name} {value:g}"
        for name, value in result.items()
        if isinstance(value, float)
        and (
            (name.startswith("psi_") and value > _MUCH_PSI)
            or (name == "calibration" and abs(value) > _MUCH_GAP)
        )
    ]


async def _drift(settings: Settings, since_ms: int) -> dict[str, object]:
    scored, models = await _decisions(settings, since_ms)
    if not models:
        raise UsageError(
            f"no decision with scores on {settings.decisions_topic} in these hours: "
            "nothing says which model to compare with"
        )
    [(model, _)] = models.most_common(1)
    # Users come one after the other here: halving would favour the last ones.
    counts = drift_of(settings, model, most=inf)
    if counts is None:
        raise UsageError(
            f"most decisions are scored by {model}, and no reference of it is here: it is neither "
            "in CLICKPATH_MODEL_REPOSITORY nor in CLICKPATH_MODEL with a reference in its card"
        )
    ours = scored[model]
    for each in ours:
        counts.add_score(each.action, each.purchase)
    events = await _clicks(settings, since_ms, counts, ours)
    return {
        "model": model,
        "models": dict(models),
        "events": events,
        "decisions": len(ours),
        **counts.figures(),
    }


async def _decisions(
    settings: Settings, since_ms: int
) -> tuple[dict[str, list[_Scored]], Counter[str]]:
    """Decisions with scores, by model; broken records are passed over, `why` tells of them."""
    scored: dict[str, list[_Scored]] = {}
    async for record in read_topic(settings.connection, settings.decisions_topic):
        if record.timestamp_ms < since_ms or record.value is None:
            continue
        try:
            decision = decision_from_json(record.value, settings.window)
        except StateError:
            continue
        if decision.scores is not None:
            scored.setdefault(decision.digests.model, []).append(
                _Scored(
                    decision.user_id,
                    decision.now_ms,
                    decision.path.steps[-1].action,
                    decision.scores.purchase,
                    decision.scores.next_action,
                )
            )
    return scored, Counter({model: len(each) for model, each in scored.items()})


async def _clicks(
    settings: Settings, since_ms: int, counts: Drift, scored: Sequence[_Scored]
) -> int:
    """Counts the clicks, and as outcome of each decision the first one of its user after it."""
    by_user: dict[str, list[tuple[int, Step]]] = {}
    now_ms, edge = wall_clock_ms(), make_edge(settings)
    async for record in read_topic(settings.connection, settings.clicks_topic):
        if record.timestamp_ms < since_ms:
            continue
        try:
            given_id, _, step = parse_arrival(record.value, record.headers, now_ms)
            user_id = edge(given_id)
        except BadEvent:
            continue
        by_user.setdefault(user_id, []).append((step.ts_ms, step))
    waiting: dict[str, list[_Scored]] = {}
    for each in scored:
        waiting.setdefault(each.user_id, []).append(each)
    for user_id, steps in by_user.items():
        steps.sort(key=lambda each: each[0])
        before: Step | None = None
        open_ = sorted(waiting.get(user_id, ()), key=lambda each: each.now_ms)
        for ts_ms, step in steps:
            counts.add_event(before, step)
            while open_ and open_[0].now_ms < ts_ms:
                counts.add_outcome(open_.pop(0).next_action, step.action)
            before = step
    return sum(map(len, by_user.values()))
