"""`clickpath why`: reads a decision from the log, makes it again, and says what differs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from clickpath.decision import Decision
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.rerun import rerun
from clickpath.scores import Scores
from clickpath.vocabulary import ACTIONS
from clickpath.wire.records import decision_from_json
from serving.predictor import Predictor
from serving.versions import EmbeddedSource
from stream.commands.arguments import parser, print_result, settings_of
from stream.models.wiring import versions_of
from stream.reading import read_topic
from stream.settings import Settings
from stream.wiring import make_policy, make_predictor


def why(argv: Sequence[str]) -> int:
    """Runs the command; exit code 0 when the decision comes out equal, 1 when it differs."""
    arguments = parser("why", "Make a logged decision again, and say what differs.")
    arguments.add_argument("decision_id", metavar="DECISION_ID", help="also an intervention's id")
    source = arguments.add_mutually_exclusive_group(required=True)
    source.add_argument("--log", metavar="FILE", help="decisions as JSON lines (`replay --out`)")
    source.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="the decisions topic")
    arguments.add_argument("--policy", metavar="FILE", help="default: the shipped policy")
    arguments.add_argument("--model", metavar="DIR", help="a model, `shipped` (default) or `none`")
    options = arguments.parse_args(argv)
    settings = settings_of(
        bootstrap_servers=options.bootstrap_servers, policy=options.policy, model=options.model
    )
    decision_id = options.decision_id.lower()
    if options.log is not None:
        raw, where = _find_in_file(Path(options.log), decision_id), options.log
    else:
        raw, where = asyncio.run(_find_on_topic(settings, decision_id)), settings.decisions_topic
    if raw is None:
        raise UsageError(f"there is no decision {decision_id} in {where}")
    decision = decision_from_json(raw, settings.window)
    result = asyncio.run(_explain(settings, decision))
    if not options.json:
        _tell(decision)
    print_result(result, as_json=options.json)
    return 0 if result["equal"] else 1


def _find_in_file(log: Path, decision_id: str) -> bytes | None:
    found: bytes | None = None
    try:
        with log.open("rb") as lines:
            for line in lines:
                if _is_decision(line, decision_id):
                    found = line
    except OSError as error:
        raise UsageError(f"cannot read {log}: {error}") from error
    return found


async def _find_on_topic(settings: Settings, decision_id: str) -> bytes | None:
    """The decision with this id; the last one, when a crash repeated it."""
    found: bytes | None = None
    async for record in read_topic(settings.connection, settings.decisions_topic):
        if record.value is not None and _is_decision(record.value, decision_id):
            found = record.value
    return found


def _is_decision(raw: bytes, decision_id: str) -> bool:
    """Whether this is the record of a decision; an event may have an id that looks like one."""
    if f'"{decision_id}"'.encode() not in raw:
        return False
    try:
        record = json.loads(raw)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("decision_id") == decision_id


async def _explain(settings: Settings, decision: Decision) -> dict[str, object]:
    policy = make_policy(settings)
    encoder = Encoder(settings.window)
    notes: list[str] = []
    scores: Scores | None = None
    if decision.digests.encoder != encoder.fingerprint:
        notes.append(
            f"encoded by {decision.digests.encoder}, the encoder here is {encoder.fingerprint}"
        )
    elif decision.scores is not None:
        scores = await _score_again(settings, encoder, decision, notes)
    differences = rerun(decision, policy, settings.window, scores)
    return {
        "decision_id": decision.decision_id,
        "equal": not differences and not notes,
        "scored_again": scores is not None,
        "differences": list(differences),
        "notes": notes,
    }


async def _score_again(
    settings: Settings, encoder: Encoder, decision: Decision, notes: list[str]
) -> Scores | None:
    predictor = await _predictor_of(settings, encoder, decision.digests.model)
    if predictor is None:
        notes.append("no model here; the recorded scores were taken")
        return None
    try:
        if predictor.digest != decision.digests.model:
            notes.append(
                f"scored by model {decision.digests.model}, the model here is {predictor.digest}; "
                "the recorded scores were taken"
            )
            return None
        [scores] = await predictor.predict([encoder.encode(decision.path)], deadline_s=30.0)
        return scores
    finally:
        await predictor.close()


async def _predictor_of(settings: Settings, encoder: Encoder, version: str) -> Predictor | None:
    """The model that scored, from the repository; else the one that the settings name."""
    if settings.model_repository:
        repository = versions_of(settings)
        if repository.has(version):
            return await EmbeddedSource(repository, encoder).load(version)
    return make_predictor(settings, encoder)


def _tell(decision: Decision) -> None:
    steps = decision.path.steps[-5:]
    sent = f"{decision.kind} {decision.offer}" if decision.kind else "nothing"
    print(f"decision    {decision.decision_id}")
    print(f"user        {decision.user_id}, after event {decision.event_id}")
    print(f"path        ... {' > '.join(ACTIONS[step.action - 1] for step in steps)}")
    print(f"choice      {sent}: {decision.reason} (propensity {decision.propensity:.4f})")
    print(f"arm         {decision.arm}")
    print("action set  " + ", ".join(f"{name} {p:.4f}" for name, p in decision.action_set))
    for kind, reason in decision.suppressed:
        print(f"held back   {kind}: {reason}")
    if decision.scores is not None:
        likely = sorted(zip(decision.scores.next_action[1:], ACTIONS, strict=True), reverse=True)[
            :3
        ]
        print(
            f"scores      purchase {decision.scores.purchase:.4f}; next "
            + ", ".join(f"{action} {p:.3f}" for p, action in likely)
        )
    if decision.fallback is not None:
        print(f"fallback    {decision.fallback}")
