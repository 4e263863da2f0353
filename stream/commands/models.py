"""`clickpath models`: which model decides, and how another one takes its place."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from clickpath.cli import CommandParser
from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch, UsageError
from clickpath.logs import RawLine
from serving.card import read_card
from serving.promotion import read_promotion
from stream.commands.arguments import add_brokers, parser, print_result, settings_of, wall_clock_ms
from stream.models.record import ACTIVE_KEY, Guards, Plan, Standing, begun, rolled_back, to_json
from stream.models.topic import Known
from stream.models.wiring import folder_of, versions_of
from stream.producing import produce
from stream.reading import read_topic
from stream.settings import Settings
from stream.wiring import model_directory, triton_folder

_POLL_S: Final = 1.0


def models(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    if options.action in ("add", "promote"):
        _named(options)
    settings = settings_of(
        bootstrap_servers=options.bootstrap_servers, model_repository=options.repository
    )
    if options.action == "add":
        if settings.triton_url:
            raise UsageError(
                "CLICKPATH_TRITON_URL is set, and how Triton runs a version has to be said with it:"
                " `clickpath triton repository DIR --model MODEL` adds one"
            )
        key = Path(options.sign) if options.sign else None
        version = folder_of(settings).put(Path(_named(options)), key)
        print_result({"version": version}, as_json=options.json)
        return 0
    planned = _planned(options)
    known = asyncio.run(_known(settings))
    if options.action == "list":
        return _list(settings, known, as_json=options.json)
    if options.action == "promote":
        standing = _promoted(settings, known.standing, options, planned)
        _keep(settings, standing)
        return asyncio.run(_written(settings, standing, options))
    if options.action == "rollback":
        standing = _rolled_back(known.standing, options.reason)
        return asyncio.run(_written(settings, standing, options))
    print_result(_status(known), as_json=options.json)
    return 0


def _parser() -> CommandParser:
    arguments = parser(
        "models", "Which model decides; try a new one beside it, step by step; roll back."
    )
    arguments.add_argument("action", choices=["list", "add", "promote", "rollback", "status"])
    arguments.add_argument(
        "version", nargs="?", help="to promote; for `add` the directory of a model"
    )
    add_brokers(arguments)
    arguments.add_argument(
        "--repository", metavar="DIR", help="of versions (else CLICKPATH_MODEL_REPOSITORY)"
    )
    plan, guards = Plan(), Guards()
    group = arguments.add_argument_group("promote")
    group.add_argument("--force", action="store_true", help="against the verdict of the gate")
    group.add_argument(
        "--at-once", action="store_true", help="begin at 100 %%; the guards still watch"
    )
    group.add_argument(
        "--shadow-s",
        type=float,
        default=plan.shadow_s,
        metavar="S",
        help="how long it only scores beside the champion; default %(default)g",
    )
    group.add_argument(
        "--steps",
        default=",".join(f"{step:g}" for step in plan.steps_pct),
        metavar="PCT,...",
        help="shares of the users afterwards; default %(default)s",
    )
    group.add_argument(
        "--step-s",
        type=float,
        default=plan.step_s,
        metavar="S",
        help="how long each step lasts; default %(default)g",
    )
    group.add_argument(
        "--least-outcomes",
        type=int,
        default=plan.least_outcomes,
        metavar="N",
        help="outcomes that each phase waits for; default %(default)d",
    )
    group.add_argument(
        "--least-sessions",
        type=int,
        default=plan.least_sessions,
        metavar="N",
        help="ended sessions that the last step waits for; default %(default)d",
    )
    for name in Guards.model_fields:
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(guards, name),
            metavar="X",
            help="guard, see docs/models.md; default %(default)g",
        )
    group.add_argument(
        "--wait", action="store_true", help="until it is the champion, or is rolled back (exit 1)"
    )
    arguments.add_argument("--reason", default="by hand", help="of a rollback, for the record")
    arguments.add_argument("--sign", metavar="FILE", help="Ed25519 key, PEM, of what is added")
    return arguments


def _named(options: argparse.Namespace) -> str:
    if options.version is None:
        what = "a directory" if options.action == "add" else "a version"
        raise UsageError(f"models {options.action} needs {what}")
    named: str = options.version
    return named


async def _known(settings: Settings) -> Known:
    known = Known()
    async for record in read_topic(settings.connection, settings.models_topic):
        known.take(record.key, record.value)
    return known


def _list(settings: Settings, known: Known, *, as_json: bool) -> int:
    repository, standing = versions_of(settings), known.standing
    versions: list[dict[str, object]] = []
    for version in repository.versions():
        role = ""
        if standing is not None and version == standing.champion:
            role = "champion"
        elif standing is not None and version == standing.candidate:
            role = "candidate" if standing.trying else "rolled back"
        elif standing is not None and version == standing.previous:
            role = "previous"
        try:
            directory, card = repository.checked(version)
            promotion = read_promotion(directory)
            gate = "none" if promotion is None else promotion.verdict
            trained = str(card.data.get("refreshed", ""))
            versions.append({"version": version, "role": role, "gate": gate, "from": trained})
        except ModelMismatch as error:
            versions.append({"version": version, "role": role, "gate": f"unusable: {error}"})
    if not as_json:
        for each in versions:
            named = {"gate": "gate: ", "from": "refreshed from "}
            print("  ".join(f"{named.get(k, '')}{v}" for k, v in each.items() if v))
    print_result(
        {"repository": str(repository.folder), "versions": versions if as_json else len(versions)},
        as_json=as_json,
    )
    return 0


def _planned(options: argparse.Namespace) -> tuple[Plan, Guards]:
    try:
        steps = tuple(float(step) for step in options.steps.split(","))
    except ValueError as error:
        raise UsageError(f"--steps is {options.steps!r}: {error}") from error
    try:
        plan = Plan(
            shadow_s=options.shadow_s,
            steps_pct=steps,
            step_s=options.step_s,
            least_outcomes=options.least_outcomes,
            least_sessions=options.least_sessions,
        )
        return plan, Guards(**{name: getattr(options, name) for name in Guards.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        # What is wrong with several values together has no place: only the steps rise.
        [name] = first["loc"] or ["steps"]
        value = getattr(options, str(name))
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{str(name).replace('_', '-')} is {value}: {said}") from error


def _promoted(
    settings: Settings,
    standing: Standing | None,
    options: argparse.Namespace,
    planned: tuple[Plan, Guards],
) -> Standing:
    version = _named(options)
    if standing is not None and standing.trying:
        raise UsageError(
            f"{standing.candidate} is being tried ({standing.phase}, {standing.share_pct:g} %); "
            "`clickpath models rollback` ends that"
        )
    directory, card = versions_of(settings).checked(version)
    encoder = Encoder(settings.window)
    if card.encoder != encoder.fingerprint:
        raise ModelMismatch(
            f"{version} was trained with encoder {card.encoder}, the workers' is "
            f"{encoder.fingerprint}"
        )
    champion = standing.champion if standing is not None else _first_champion(settings)
    if version == champion:
        raise UsageError(f"{version} is the champion already")
    promotion = read_promotion(directory)
    refused = "it was never compared with a champion" if promotion is None else None
    if promotion is not None and promotion.verdict == "refuse":
        refused = "; ".join(promotion.reasons)
    if refused is not None and not options.force:
        raise UsageError(f"the gate refuses {version}: {refused} (--force promotes it anyway)")
    plan, guards = planned
    return begun(
        standing,
        champion,
        version,
        wall_clock_ms(),
        plan=plan,
        guards=guards,
        at_once=options.at_once,
        forced=refused is not None,
        reason="promoted by hand" if refused is None else f"forced: {refused}",
    )


def _keep(settings: Settings, standing: Standing) -> None:
    """Has Triton serve what the rollout may need, before any worker hears of it."""
    versions = versions_of(settings)
    needed = [standing.champion, standing.candidate, standing.previous]
    # The one before the champion is for a rollback by hand, and may be gone.
    gone = standing.previous is not None and not versions.has(standing.previous)
    versions.keep([each for each in needed[: 2 if gone else 3] if each is not None])


def _first_champion(settings: Settings) -> str:
    """What workers decide with before anything stands on the topic."""
    if settings.triton_url:
        return triton_folder(settings).first(settings.triton_version)
    if settings.model == "none":
        raise UsageError("CLICKPATH_MODEL is 'none': there is no champion to compare with")
    return read_card(model_directory(settings)).digest


def _rolled_back(standing: Standing | None, reason: str) -> Standing:
    if standing is None or (not standing.trying and standing.previous is None):
        raise UsageError("nothing to go back to: no candidate, and no champion before this one")
    return rolled_back(standing, wall_clock_ms(), reason)


async def _written(settings: Settings, standing: Standing, options: argparse.Namespace) -> int:
    line = RawLine(ACTIVE_KEY, to_json(standing), (), "")
    await produce([line], settings.connection, settings.models_topic)
    known = Known()
    known.take(ACTIVE_KEY, to_json(standing))
    while options.wait and known.standing is not None and known.standing.trying:
        await asyncio.sleep(_POLL_S)
        known = await _known(settings)
    print_result(_status(known), as_json=options.json)
    ended = known.standing
    return int(bool(options.wait) and ended is not None and ended.phase == "rolled-back")


def _status(known: Known) -> dict[str, object]:
    standing = known.standing
    if standing is None:
        return {
            "phase": "active",
            "reason": "nothing was promoted yet, workers keep the model that they began with",
        }
    status: dict[str, object] = {
        "phase": standing.phase,
        "champion": standing.champion,
        "previous": standing.previous,
        "candidate": standing.candidate,
        "share_pct": standing.share_pct,
        "forced": standing.forced,
        "since_s": round((wall_clock_ms() - standing.since_ms) / 1000, 1),
        "reason": standing.reason,
    }
    if standing.candidate is not None:
        evidence = known.evidence(standing.rollout)
        status["workers"] = sum(
            report.rollout == standing.rollout for report in known.reports.values()
        )
        status |= evidence.figures()
    return status
