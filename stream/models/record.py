"""What stands on the models topic: which model decides, and how far a new one has come.

The topic is compacted. Under the key `active` lies one `Standing`; whoever reads the topic from
its beginning knows which model decides now.

    active ---- begun ----> shadow ---> ramp: 1 %, 10 %, 50 %, 100 % ---> active, with the candidate
                               |          |
                               '----------'--- rolled_back ---> rolled-back, with the champion

Rules

1.  Each record has a number, one more than that of the record that it follows. A reader takes a
    record only if its number is greater than that of the one it has; of two that follow the same
    record the first one counts, unless the second one rolls back: a rollback always counts.
2.  At a share of 100 % the champion is still loaded and compared; only when that step is over does
    the candidate become the champion.
3.  Whoever is in the share of a step is in that of each later one.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clickpath.ids import derived_event_id
from stream.misfits import misfit

ACTIVE_KEY: Final = b"active"

Phase = Literal["active", "shadow", "ramp", "rolled-back"]

_DIGEST: Final = r"^[0-9a-f]{16}$"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Plan(_Record):
    """How a rollout goes on.

    Attributes:
        shadow_s: How long the candidate only scores beside the champion.
        steps_pct: The shares of the users that it decides for afterwards, rising to 100.
        step_s: How long each of them lasts.
        least_outcomes: Outcomes that must be known before a phase may end; without traffic nothing
            goes on.
        least_sessions: Sessions that must have ended, of whose users the candidate has scored a
            path, before it may become the champion. That takes a session and the lateness.
    """

    shadow_s: float = Field(default=600.0, ge=0)
    steps_pct: tuple[float, ...] = (1.0, 10.0, 50.0, 100.0)
    step_s: float = Field(default=600.0, ge=0)
    least_outcomes: int = Field(default=200, ge=0)
    least_sessions: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        steps = self.steps_pct
        if not steps or steps[-1] != 100 or steps[0] <= 0 or [*steps] != sorted({*steps}):
            raise ValueError(f"the steps {steps} do not rise to 100 %")
        return self


class Guards(_Record):
    """What a candidate must keep to; see `evidence.Evidence` for the figures.

    Attributes:
        log_loss_excess: By how many nats its log loss of the next action may be above the
            champion's.
        calibration_excess: By how much its calibration gap may be above the champion's.
        psi: Most population stability index between the purchase scores of both.
        agreement: The least share of decisions that would be the same.
        failures: Most of its calls that may fail, as a share.
        purchase_log_loss_excess: By how many nats its log loss of a purchase in the rest of the
            session may be above the champion's.
        purchase_calibration_excess: By how much its mean probability of one may be further from
            the rate than the champion's.
        leave_log_loss_excess: By how many nats its log loss of the session's end may be above the
            champion's.
        leave_calibration_excess: By how much its mean probability of one may be further from the
            rate than the champion's.
        slowdown: How many times as long as the champion it may take for the same paths.
    """

    log_loss_excess: float = Field(default=0.1, ge=0)
    calibration_excess: float = Field(default=0.1, ge=0)
    psi: float = Field(default=1.0, gt=0)
    agreement: float = Field(default=0.5, ge=0, le=1)
    failures: float = Field(default=0.05, ge=0, le=1)
    purchase_log_loss_excess: float = Field(default=0.02, ge=0)
    purchase_calibration_excess: float = Field(default=0.05, ge=0)
    leave_log_loss_excess: float = Field(default=0.05, ge=0)
    leave_calibration_excess: float = Field(default=0.1, ge=0)
    slowdown: float = Field(default=2.0, gt=0)


class Standing(_Record):
    """Which model decides.

    Attributes:
        v: Version of this record.
        number: See rule 1 above.
        champion: Digest of the model that decides.
        previous: Digest of the champion before it; None where there was none.
        candidate: Digest of the model that is tried, or was when it was rolled back.
        phase: Where it stands.
        share_pct: Of the users, for whom the candidate decides.
        rollout: Id of the rollout; follows from both models and the time of its beginning.
        since_ms: When the phase, or the step, began.
        plan: How it goes on.
        guards: What ends it.
        forced: Whether the candidate was put up against the verdict of the gate.
        reason: Why the record was written, in a sentence.
    """

    v: Literal[1] = 1
    number: int = Field(ge=1)
    champion: str = Field(pattern=_DIGEST)
    previous: str | None = Field(default=None, pattern=_DIGEST)
    candidate: str | None = Field(default=None, pattern=_DIGEST)
    phase: Phase = "active"
    share_pct: float = Field(default=0.0, ge=0, le=100)
    rollout: str = ""
    since_ms: int
    plan: Plan = Plan()
    guards: Guards = Guards()
    forced: bool = False
    reason: str

    @property
    def trying(self) -> bool:
        """Whether a candidate is being tried."""
        return self.phase in ("shadow", "ramp")

    def phase_over(self, now_ms: int, outcomes: int, sessions: int) -> bool:
        """Whether the next step may come.

        Args:
            now_ms: The present.
            outcomes: That have come in this phase.
            sessions: That have ended in all of the rollout.
        """
        plan = self.plan
        lasts_s = plan.shadow_s if self.phase == "shadow" else plan.step_s
        enough = outcomes >= plan.least_outcomes
        if self.share_pct == 100:
            enough = enough and sessions >= plan.least_sessions
        return enough and now_ms - self.since_ms >= lasts_s * 1000

    def after(self, other: Standing | None) -> bool:
        """Whether a reader that has the other record takes this one; see rule 1."""
        if other is None or self.number > other.number:
            return True
        rolls_back = self.phase == "rolled-back" and other.phase != "rolled-back"
        return self.number == other.number and rolls_back

    def says_the_same(self, other: Standing) -> bool:
        """Whether it differs from the other record in nothing but time and reason."""
        given = {"since_ms": 0, "reason": ""}
        return self.model_copy(update=given) == other.model_copy(update=given)


def begun(
    before: Standing | None,
    champion: str,
    candidate: str,
    now_ms: int,
    *,
    plan: Plan,
    guards: Guards,
    at_once: bool = False,
    forced: bool = False,
    reason: str = "promoted by hand",
) -> Standing:
    """The record with which a candidate begins.

    Args:
        before: What stands on the topic.
        champion: The model that decides.
        candidate: The model to try.
        now_ms: The present.
        plan: How it goes on.
        guards: What ends it.
        at_once: Whether to begin with the last step, at 100 %.
        forced: Whether the gate refused it.
        reason: Why.
    """
    return Standing(
        number=_next(before),
        champion=champion,
        previous=before.previous if before is not None else None,
        candidate=candidate,
        phase="ramp" if at_once else "shadow",
        share_pct=100.0 if at_once else 0.0,
        rollout=derived_event_id("rollout", champion, candidate, str(now_ms))[:16],
        since_ms=now_ms,
        plan=plan,
        guards=guards,
        forced=forced,
        reason=reason,
    )


def advanced(standing: Standing, now_ms: int) -> Standing:
    """The record of the step after; after the last one the candidate is the champion."""
    assert standing.candidate is not None
    share = standing.share_pct if standing.phase == "ramp" else 0.0
    later = [step for step in standing.plan.steps_pct if step > share]
    common = {"number": standing.number + 1, "since_ms": now_ms}
    if later:
        what = {"phase": "ramp", "share_pct": later[0], "reason": "the guards held"}
        return standing.model_copy(update={**common, **what})
    return Standing(
        number=standing.number + 1,
        champion=standing.candidate,
        previous=standing.champion,
        since_ms=now_ms,
        plan=standing.plan,
        guards=standing.guards,
        forced=standing.forced,
        rollout=standing.rollout,
        reason="the guards held at every step",
    )


def rolled_back(standing: Standing, now_ms: int, reason: str) -> Standing:
    """The record with which the champion alone decides again.

    Of a candidate on trial it is the end. Where none is tried, the champion before the present one
    comes back, which must be known.
    """
    if standing.trying:
        changes: dict[str, object] = {}
    else:
        assert standing.previous is not None
        changes = {
            "champion": standing.previous,
            "previous": None,
            "candidate": standing.champion,
        }
    changes |= {
        "number": standing.number + 1,
        "phase": "rolled-back",
        "share_pct": 0.0,
        "since_ms": now_ms,
        "reason": reason,
    }
    return standing.model_copy(update=changes)


def _next(before: Standing | None) -> int:
    return 1 if before is None else before.number + 1


def standing_from_json(raw: bytes) -> Standing:
    """The standing in the bytes of a record.

    Raises:
        NewerVersion: A newer release wrote it.
        StateError: They are none.
    """
    try:
        return Standing.model_validate_json(raw)
    except ValidationError as error:
        raise misfit("record of the active model", 1, error) from error


def to_json(record: BaseModel) -> bytes:
    """The bytes of a record, for the models topic."""
    return record.model_dump_json().encode()
