"""`clickpath drift`: how far events and scores on the topics are from the model's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

from clickpath.decision import Decision
from clickpath.errors import BadEvent, FatalError, StateError, UsageError
from clickpath.steps import Step
from clickpath.wire import parse_arrival
from clickpath.wire.records import decision_from_json
from stream.commands.arguments import add_brokers, parser, print_result, settings_of, wall_clock_ms
from stream.drift import Drift
from stream.models.wiring import drift_of
from stream.reading import read_topic
from stream.settings import Settings
from stream.user_sample import UserSample
from stream.wiring import make_edge

_HOUR_MS: Final = 3_600_000

#: PSI from which much has changed; calibration that is off by as much.
_MUCH_PSI: Final = 0.25
_MUCH_GAP: Final = 0.1


#: Most clicks and decisions that are kept to be joined; those of a smaller share of the users
#: where there are more. All are counted and all scores are looked at.
_MOST_STEPS: Final = 200_000
_MOST_SCORED: Final = 50_000

_UNSCORED: Final = b'"scores":null'


class _Scored(NamedTuple):
    """What waits of a decision for the click after it."""

    now_ms: int
    next_action: tuple[float, ...]


def drift(argv: Sequence[str]) -> int:
    """Runs the command; exit code 1 with `--check` when much has changed."""
    arguments = parser(
        "drift", "How far events and scores on the topics are from the model's reference."
    )
    add_brokers(arguments)
    arguments.add_argument(
        "--model",
        metavar="DIR",
        help="the model to compare with, or `shipped`; else that of the settings",
    )
    arguments.add_argument(
        "--hours", type=float, default=24.0, metavar="H", help="only the newest; default 24"
    )
    arguments.add_argument(
        "--check", action="store_true", help="exit code 1 when a PSI is above 0.25, or calibration"
    )
    options = arguments.parse_args(argv)
    if not options.hours > 0:
        raise UsageError(f"--hours is {options.hours:g}, must be above 0")
    # What is named here is meant, whatever workers ask.
    named = {"model": options.model, "model_repository": "", "triton_url": ""}
    settings = settings_of(
        bootstrap_servers=options.bootstrap_servers, **(named if options.model else {})
    )
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
    scores = await _decisions(settings, since_ms)
    models = scores.models
    if not models:
        raise UsageError(
            f"no decision with scores on {settings.decisions_topic} in these hours: "
            "nothing says which model to compare with"
        )
    [(model, _)] = models.most_common(1)
    counts = scores.counts[model]
    if counts is None:
        raise UsageError(
            f"most decisions are scored by {model}, and no reference of it is here: it is neither "
            "in CLICKPATH_MODEL_REPOSITORY nor in CLICKPATH_MODEL with a reference in its card; "
            "`--model DIR` names where it lies"
        )
    clicks = await _clicks(settings, since_ms)
    _join(counts, clicks.steps, scores.waiting[model])
    return {
        "model": model,
        "models": dict(models),
        "events": clicks.events,
        "decisions": models[model],
        "share_of_users": clicks.steps.share,
        **counts.figures(),
    }


class _Scores:
    """What the decisions of some hours say: counts of the scores, and samples that wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.models: Counter[str] = Counter()
        self.counts: dict[str, Drift | None] = {}
        self.waiting: dict[str, UserSample[_Scored]] = {}

    def add(self, decision: Decision) -> None:
        """Counts a decision, if a model scored it."""
        scores, model = decision.scores, decision.digests.model
        if scores is None:
            return
        if model not in self.counts:
            # Users come one after the other in what is joined: halving would favour the last ones.
            self.counts[model] = drift_of(self._settings, model, most=inf)
            self.waiting[model] = UserSample(_MOST_SCORED)
        self.models[model] += 1
        counts = self.counts[model]
        if counts is not None:
            counts.add_score(decision.path.steps[-1].action, scores.purchase)
            scored = _Scored(decision.now_ms, scores.next_action)
            self.waiting[model].add(decision.user_id, scored)


async def _decisions(settings: Settings, since_ms: int) -> _Scores:
    """Decisions with scores, by model; broken records are passed over, `why` tells of them."""
    scores, topic = _Scores(settings), settings.decisions_topic
    async for record in read_topic(settings.connection, topic, since_ms=since_ms):
        if record.timestamp_ms < since_ms or record.value is None or _UNSCORED in record.value:
            continue
        try:
            scores.add(decision_from_json(record.value, settings.window))
        except StateError:
            continue
    return scores


class _Clicks(NamedTuple):
    """How many there are, and those of a sample of users."""

    events: int
    steps: UserSample[Step]


async def _clicks(settings: Settings, since_ms: int) -> _Clicks:
    steps, events = UserSample[Step](_MOST_STEPS), 0
    now_ms, edge = wall_clock_ms(), make_edge(settings)
    async for record in read_topic(settings.connection, settings.clicks_topic, since_ms=since_ms):
        if record.timestamp_ms < since_ms:
            continue
        try:
            given_id, _, step = parse_arrival(record.value, record.headers, now_ms)
            user_id = edge(given_id)
        except BadEvent:
            continue
        events += 1
        steps.add(user_id, step)
    return _Clicks(events, steps)


def _join(counts: Drift, clicks: UserSample[Step], scored: UserSample[_Scored]) -> None:
    """Counts the clicks, and as outcome of each decision the first one of its user after it."""
    for user_id, steps in clicks.by_user.items():
        steps.sort()
        before: Step | None = None
        open_ = sorted(scored.by_user.get(user_id, ()))
        for step in steps:
            counts.add_event(before, step)
            while open_ and open_[0].now_ms < step.ts_ms:
                counts.add_outcome(open_.pop(0).next_action, step.action)
            before = step
