"""Judges what lies on a shop's topics against one process, also where models came, went or failed.

Rules

1.  The decisions that are due are those of one process, by id, cause and path: none more, none
    less. They do not depend on any model; neither do the paths that users end with, the dead
    letters and the late events.
2.  Each decision comes out equal when it is made again from its own record, as `clickpath why`
    makes it, and its scores are those of the model that it names.
3.  It names a model that may have decided. Where scores are missing the record says why, and they
    may be missing only where the model could fail.
4.  It was made on what an earlier decision of its user, as it was recorded, leaves in the ledger,
    and so is the ledger with which the user ends. What that ledger says was sent is on its topic.
5.  Interventions are those of the decisions, byte for byte; a cause has one id.
6.  A crash may repeat a decision, in transactional delivery it may not. The repeated record is
    equal, unless the model changed or failed meanwhile.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clickpath.decision import Decision
from clickpath.encoding import Encoder
from clickpath.erasure import request_of
from clickpath.errors import BadEvent
from clickpath.ledger import EMPTY_LEDGER, Ledger, Sent
from clickpath.logs import RawLine
from clickpath.policy import KINDS, Policy
from clickpath.rerun import rerun
from clickpath.scores import Scores
from clickpath.suppression import pruned
from clickpath.wire import parse
from clickpath.wire.records import decision_from_json, intervention_to_json
from serving.late import UNKNOWN
from serving.predictor import Predictor
from stream.commands.arguments import wall_clock_ms
from stream.commands.state import users_on_changelog
from stream.reading import StoredRecord
from stream.replay import hash_of_users
from stream.wiring import make_policy
from tests.promises.shop import Oracle, Shop


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What may be.

    Attributes:
        models: The models that may have decided, by digest.
        failing: Whether scores may be missing.
        repeats: Whether a record may be there more than once.
        last: The place among the lines from which on one model alone decides; and its digest.
    """

    models: Mapping[str, Predictor]
    failing: bool
    repeats: bool
    last: tuple[int, str] | None = None

    @property
    def steady(self) -> bool:
        """Whether one process with one model decides everything alike."""
        return len(self.models) == 1 and not self.failing


async def judge(shop: Shop, lines: list[RawLine], allowed: Allowed) -> Counter[str]:
    """Compares all that a shop has left with one process; what was seen, counted.

    Args:
        shop: Its workers have handled everything.
        lines: What was produced, in order; requests for erasures have no key.
        allowed: What may be.

    Raises:
        AssertionError: A rule is broken.
    """
    patient = shop.settings.model_copy(
        update={"predict_deadline_s": 60.0, "triton_url": "", "model_repository": ""}
    )
    due: dict[str, Decision] = {}

    def decided(raw: bytes) -> None:
        decision = decision_from_json(raw, patient.window)
        due[decision.decision_id] = decision

    expected = await Oracle(patient, decided).replay(lines)
    variants, records = await _decisions(shop)
    assert set(variants) == set(due)
    for key, one in due.items():
        for each in variants[key].values():
            said = (each.user_id, each.event_id, each.now_ms, each.path, each.eligible, each.arm)
            assert said == (one.user_id, one.event_id, one.now_ms, one.path, one.eligible, one.arm)
    every = [each for variant in variants.values() for each in variant.values()]
    await _made_again(shop, every, make_policy(patient), allowed)
    users = await users_on_changelog(shop.settings)
    assert hash_of_users(users.items()) == expected.state_hash
    course = _course(lines, due)
    ledgers = _ledgers(course, variants, make_policy(patient))
    sent = await _interventions(shop, variants)
    for key, user in users.items():
        user_id = key.decode()
        assert user.ledger in ledgers[user_id], (user_id, user.ledger, ledgers[user_id])
        for entry in user.ledger:
            assert (user_id, *entry) in sent, (user_id, entry, "is in the ledger and was not sent")
    await _returned(shop, expected)
    if not allowed.repeats:
        assert records == len(variants)
        assert sent.total() == len(sent)
    if allowed.steady:
        assert len(every) == len(variants)
        assert set(await shop.interventions()) == expected.ids
        assert await shop.interventions_hash() == expected.interventions.hexdigest()
    if allowed.last is not None:
        _alone(course, variants, *allowed.last)
    return Counter(
        decisions=len(variants),
        interventions=len(sent),
        raw_duplicates=sent.total() - len(sent),
        variants=len(every) - len(variants),
        fallbacks=sum(each.fallback is not None for each in every),
        scored_by_another_model=sum(
            each.scores is not None and each.digests.model != due[each.decision_id].digests.model
            for each in every
        ),
    )


async def _decisions(shop: Shop) -> tuple[dict[str, dict[bytes, Decision]], int]:
    """The different records of each decision by its id; and how many there are in all."""
    variants: dict[str, dict[bytes, Decision]] = defaultdict(dict)
    count = 0
    for record in await shop.on(shop.settings.decisions_topic):
        if record.value is None:
            continue
        count += 1
        decision = decision_from_json(record.value, shop.settings.window)
        variants[decision.decision_id][record.value] = decision
    return variants, count


async def _made_again(shop: Shop, every: list[Decision], policy: Policy, allowed: Allowed) -> None:
    """Rules 2 and 3."""
    window = shop.settings.window
    encoder = Encoder(window)
    of_model: dict[str, list[Decision]] = defaultdict(list)
    for each in every:
        # A worker that has not seen its Triton yet does not know which model it has.
        unknown = each.scores is None and allowed.failing and each.digests.model == UNKNOWN
        assert unknown or each.digests.model in allowed.models, each
        assert each.fallback is None or allowed.failing, each
        of_model[each.digests.model if each.scores is not None else ""].append(each)
    for digest, decisions in of_model.items():
        scores: Iterable[Scores | None] = [None] * len(decisions)
        if digest:
            paths = [encoder.encode(each.path) for each in decisions]
            scores = await allowed.models[digest].predict(paths, 60.0)
        for each, today in zip(decisions, scores, strict=True):
            assert rerun(each, policy, window, today) == ()


def _course(
    lines: Iterable[RawLine], due: Mapping[str, Decision]
) -> dict[str, list[tuple[int, Decision | None]]]:
    """For each user, in order of arrival: her decisions, and None where she was erased."""
    now_ms = wall_clock_ms()
    by_cause = {(each.user_id, each.event_id): each for each in due.values()}
    course: dict[str, list[tuple[int, Decision | None]]] = defaultdict(list)
    for place, line in enumerate(lines):
        if line.key is None:
            request = request_of(line.value, line.headers)
            assert request is not None
            if request.step == "erase":
                course[request.user_id].append((place, None))
            continue
        try:
            click = parse(line.value, line.headers, now_ms)
        except BadEvent:
            continue
        # A copy makes no decision of its own.
        decision = by_cause.pop((click.user_id, click.event_id), None)
        if decision is not None:
            course[click.user_id].append((place, decision))
    assert not by_cause
    return course


def _ledgers(
    course: Mapping[str, list[tuple[int, Decision | None]]],
    variants: Mapping[str, Mapping[bytes, Decision]],
    policy: Policy,
) -> dict[str, set[Ledger]]:
    """Rule 4, for decisions; the ledgers with which each user may end."""
    ends: dict[str, set[Ledger]] = defaultdict(lambda: {EMPTY_LEDGER})
    for user_id, steps in course.items():
        may_be = {EMPTY_LEDGER}
        for _, step in steps:
            if step is None:
                may_be = {EMPTY_LEDGER}
                continue
            after: set[Ledger] = set()
            for each in variants[step.decision_id].values():
                assert each.ledger in may_be, (each, may_be)
                after.add(_after(each, policy))
            may_be = after
        ends[user_id] = may_be
    return ends


def _after(decision: Decision, policy: Policy) -> Ledger:
    if decision.kind is None:
        return decision.ledger
    sent = Sent(decision.kind, decision.now_ms)
    return pruned((*decision.ledger, sent), policy, decision.now_ms)


async def _interventions(
    shop: Shop, variants: Mapping[str, Mapping[bytes, Decision]]
) -> Counter[tuple[str, str, int]]:
    """Rule 5; how often each is there, by user, kind and time of the cause."""
    topics = shop.settings.topics
    found: dict[bytes, int] = Counter()
    for kind in KINDS:
        for record in await shop.on(topics.of_kind(kind)):
            found[record.value or b""] += 1
    known: dict[bytes, Decision] = {}
    for of_cause in variants.values():
        sending = {}
        for each in of_cause.values():
            if each.intervention is not None:
                sending[intervention_to_json(each.intervention)] = each
        # A crash may come between a decision and what it sends; then it is made again.
        if len(sending) == len(of_cause):
            assert any(raw in found for raw in sending), of_cause
        known |= sending
    assert set(found) <= set(known), set(found) - set(known)
    sent: Counter[tuple[str, str, int]] = Counter()
    for raw, count in found.items():
        decision = known[raw]
        assert decision.kind is not None
        sent[decision.user_id, decision.kind, decision.now_ms] += count
    return sent


async def _returned(shop: Shop, expected: Oracle) -> None:
    """The dead letters and late events are those of one process."""
    settings, run = shop.settings, expected.run
    assert run is not None
    dead = _origins(await shop.on(settings.dead_letter_topic))
    late = _origins(await shop.on(settings.late_topic))
    assert len(dead) == run.tally.dead_letters.total()
    assert len(late) == run.tally.late


def _origins(letters: Iterable[StoredRecord]) -> set[tuple[bytes | None, ...]]:
    names = ("clickpath-origin-partition", "clickpath-origin-offset")
    return {tuple(dict(each.headers)[name] for name in names) for each in letters}


def _alone(
    course: Mapping[str, list[tuple[int, Decision | None]]],
    variants: Mapping[str, Mapping[bytes, Decision]],
    place: int,
    digest: str,
) -> None:
    for steps in course.values():
        for at, step in steps:
            if at >= place and step is not None:
                for each in variants[step.decision_id].values():
                    assert each.digests.model == digest, each
