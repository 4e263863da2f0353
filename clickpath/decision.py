"""Decisions: what to do because of one event, and why.

    decision_point   rules on the path: is anything eligible?           (every event)
    avoids_inference caps, cool-downs, holdout: are scores of any use?  (decision points)
    decide           thresholds and exploration: which choice?          (decision points)

A decision is a function of its point, the scores, the policy and the ledger. Its id and its luck
come from its cause, so that deciding again gives the same answer under the same id. Where scores
are of no use they are neither looked at nor recorded: a decision does not depend on whether its
neighbours in a batch had the model asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from clickpath.choice import ActionSet, Choice, action_set, exploited, explored, greedy_kind
from clickpath.eligibility import eligible_kinds
from clickpath.ids import decision_id, draw
from clickpath.ledger import Ledger, Sent
from clickpath.policy import NOTHING, Kind, Policy, Scalar
from clickpath.scores import Scores
from clickpath.steps import Line
from clickpath.suppression import SUPPRESSIONS, pruned, suppressed_kinds
from clickpath.window import PathState

ARM_HOLDOUT: Final = "holdout"
ARM_TREATMENT: Final = "treatment"

#: Why a decision is what it is. They are part of the public contract: never rename one.
REASONS: Final = frozenset(
    {
        "sent",  # the greedy choice
        "explored",  # drawn evenly from the allowed set; may be nothing
        "holdout",  # the user never gets anything
        "score_outside_thresholds",  # no allowed kind had its thresholds hold
        *(
            f"suppressed_{why}" for why in SUPPRESSIONS
        ),  # nothing allowed; why the first is held back
    }
)

#: Why the model is not asked: the reasons of `avoids_inference`.
AVOIDED: Final = frozenset(
    {
        "holdout",
        "scores_unused",  # no kind that is left looks at scores
        *(f"suppressed_{why}" for why in SUPPRESSIONS if why != "needs_scores"),
    }
)


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """An event after which something is eligible.

    Attributes:
        user_id: Whose event.
        event_id: The cause of the decision.
        now_ms: Event time of the cause.
        path: The path, the cause being its newest step.
        kinds: The eligible kinds, the greatest priority first; never empty.
        holdout: Whether the user is in the holdout.
    """

    user_id: str
    event_id: str
    now_ms: int
    path: PathState
    kinds: tuple[str, ...]
    holdout: bool


@dataclass(frozen=True, slots=True)
class Digests:
    """What decided: 16 hexadecimal digits each, or a name where there is no model."""

    model: str
    policy: str
    encoder: str


@dataclass(frozen=True, slots=True)
class Intervention:
    """What a consumer acts on. It carries no scores.

    Attributes:
        intervention_id: The id of its decision; consumers may use it to drop repeats.
        kind: One of `policy.KINDS`.
        offer: Id of the offer.
        payload: The offer's payload.
        user_id: Whom it is for.
        event_id: The event that caused it.
        created_ms: Event time of the cause.
        expires_ms: Not to be acted on at or after this time.
        lines: What is in the cart, where the kind attaches it.
        model: Digest of the model that was in use.
        policy: Digest of the policy.
    """

    intervention_id: str
    kind: str
    offer: str
    payload: tuple[tuple[str, Scalar], ...]
    user_id: str
    event_id: str
    created_ms: int
    expires_ms: int
    lines: tuple[Line, ...]
    model: str
    policy: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision, with all that is needed to make it again.

    Attributes:
        decision_id: Derived from user and event.
        user_id: Whose path.
        event_id: The cause.
        now_ms: Event time of the cause.
        kind: What is sent; None for nothing.
        offer: Id of the offer; None for nothing.
        reason: One of `REASONS`.
        arm: "holdout" or "treatment".
        eligible: The eligible kinds, the greatest priority first.
        suppressed: Pairs of an eligible kind and one of `SUPPRESSIONS`.
        action_set: Pairs of a choice - `nothing` or `kind/offer` - and the probability with which
            this policy makes it; they sum to 1.
        propensity: The probability of the choice that was made.
        scores: What the model said; None when it was not of use or gave no answer.
        fallback: Why scores that were needed are missing; None when they are not.
        digests: What decided.
        path: The path it was decided on.
        ledger: What had been sent before.
        intervention: What leaves; None for nothing.
    """

    decision_id: str
    user_id: str
    event_id: str
    now_ms: int
    kind: str | None
    offer: str | None
    reason: str
    arm: str
    eligible: tuple[str, ...]
    suppressed: tuple[tuple[str, str], ...]
    action_set: ActionSet
    propensity: float
    scores: Scores | None
    fallback: str | None
    digests: Digests
    path: PathState
    ledger: Ledger
    intervention: Intervention | None


def in_holdout(policy: Policy, user_id: str) -> bool:
    """Whether a user never gets anything; the same for every policy with the same salt."""
    return _holdout_draw(policy.holdout_salt, user_id) * 100.0 < policy.holdout_pct


@lru_cache(maxsize=1 << 16)
def _holdout_draw(salt: str, user_id: str) -> float:
    return draw("holdout", salt, user_id)


def decision_point(
    policy: Policy, user_id: str, event_id: str, path: PathState, now_ms: int
) -> DecisionPoint | None:
    """The decision to make after an event, or None when nothing is eligible.

    Args:
        policy: The policy.
        user_id: Whose event.
        event_id: The event, which must be the newest step of `path`.
        path: The user's path; at least one step.
        now_ms: Event time of the event.
    """
    kinds = eligible_kinds(policy.index, path.steps[-1].action, path.tip, now_ms)
    if not kinds:
        return None
    return DecisionPoint(user_id, event_id, now_ms, path, kinds, in_holdout(policy, user_id))


def avoids_inference(point: DecisionPoint, policy: Policy, ledger: Ledger) -> str | None:
    """Why scores would make no difference to a decision (one of `AVOIDED`), or None.

    Monotone: once it gives a reason, it gives one for every ledger to which more is added. A
    chunk may therefore ask with the ledger as it is before its first decision.
    """
    if point.holdout:
        return "holdout"
    suppressed = suppressed_kinds(point.kinds, policy, ledger, point.now_ms)
    return _avoided(point.kinds, policy, suppressed)


def _avoided(kinds: tuple[str, ...], policy: Policy, suppressed: Mapping[str, str]) -> str | None:
    if len(suppressed) == len(kinds):
        return f"suppressed_{suppressed[kinds[0]]}"
    if any(policy.by_name[name].scores for name in kinds if name not in suppressed):
        return None
    return "scores_unused"


def decide(
    point: DecisionPoint,
    scores: Scores | None,
    fallback: str | None,
    policy: Policy,
    ledger: Ledger,
    digests: Digests,
) -> tuple[Decision, Ledger]:
    """Makes one decision.

    Args:
        point: Where.
        scores: What the model says; ignored where `avoids_inference` gives a reason.
        fallback: Why there are no scores; ignored where they are not needed.
        policy: The policy that found the point.
        ledger: What the user has been sent so far.
        digests: What decides, for the record.

    Returns:
        The decision, and the ledger with what it sends; the very same ledger if nothing is sent.
    """
    key = decision_id(point.user_id, point.event_id)
    suppressed: dict[str, str] = {}
    allowed: list[Kind] = []
    choice: Choice | None = None
    choices: ActionSet = ((NOTHING, 1.0),)
    if point.holdout:
        scores = fallback = None
        reason = "holdout"
    else:
        suppressed = suppressed_kinds(point.kinds, policy, ledger, point.now_ms)
        if _avoided(point.kinds, policy, suppressed) is not None:
            scores = fallback = None
        elif scores is not None:
            fallback = None
        else:
            fallback = fallback or "no_scores"
            _suppress_needy(point.kinds, policy, suppressed)
        allowed = [policy.by_name[name] for name in point.kinds if name not in suppressed]
        choice, choices, reason = _choose(allowed, scores, policy.explore_pct, key)
        reason = reason or f"suppressed_{suppressed[point.kinds[0]]}"
    decision = Decision(
        decision_id=key,
        user_id=point.user_id,
        event_id=point.event_id,
        now_ms=point.now_ms,
        kind=choice.kind.name if choice else None,
        offer=choice.offer.offer_id if choice else None,
        reason=reason,
        arm=ARM_HOLDOUT if point.holdout else ARM_TREATMENT,
        eligible=point.kinds,
        suppressed=tuple(suppressed.items()),
        action_set=choices,
        propensity=dict(choices)[choice.name if choice else NOTHING],
        scores=scores,
        fallback=fallback,
        digests=digests,
        path=point.path,
        ledger=ledger,
        intervention=_intervention(choice, key, point, digests) if choice else None,
    )
    if choice is None:
        return decision, ledger
    return decision, pruned((*ledger, Sent(choice.kind.name, point.now_ms)), policy, point.now_ms)


def _suppress_needy(kinds: tuple[str, ...], policy: Policy, suppressed: dict[str, str]) -> None:
    """Adds the kinds that look at scores and may not be sent without them."""
    for name in kinds:
        kind = policy.by_name[name]
        if kind.scores and not kind.without_scores:
            suppressed.setdefault(name, "needs_scores")


def _choose(
    allowed: list[Kind], scores: Scores | None, explore_pct: float, key: str
) -> tuple[Choice | None, ActionSet, str]:
    """The choice, all the probabilities, and the reason; no reason where nothing is allowed."""
    greedy = greedy_kind(allowed, scores)
    choices = action_set(allowed, greedy, explore_pct)
    if not allowed:
        return None, choices, ""
    if draw("explore", key) * 100.0 < explore_pct:
        return explored(allowed, key), choices, "explored"
    choice = exploited(greedy, key)
    return choice, choices, "sent" if choice else "score_outside_thresholds"


def _intervention(choice: Choice, key: str, point: DecisionPoint, digests: Digests) -> Intervention:
    kind, offer = choice
    return Intervention(
        intervention_id=key,
        kind=kind.name,
        offer=offer.offer_id,
        payload=offer.payload,
        user_id=point.user_id,
        event_id=point.event_id,
        created_ms=point.now_ms,
        expires_ms=point.now_ms + kind.expires_after_ms,
        lines=point.path.tip.cart if kind.attach_cart else (),
        model=digests.model,
        policy=digests.policy,
    )
