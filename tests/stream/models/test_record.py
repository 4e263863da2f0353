"""The records of the models topic: which follows from which, and which a reader takes."""

import pytest
from pydantic import ValidationError

from clickpath.errors import StateError
from stream.models.evidence import Evidence
from stream.models.record import (
    ACTIVE_KEY,
    Guards,
    Phase,
    Plan,
    Standing,
    advanced,
    begun,
    rolled_back,
    standing_from_json,
    to_json,
)
from stream.models.topic import REPORT_PREFIX, Known, Report

OLD, NEW = "0" * 16, "1" * 16
PLAN = Plan(shadow_s=10, steps_pct=(5, 100), step_s=20)
FIRST = begun(None, OLD, NEW, 1_000, plan=PLAN, guards=Guards())


def told(*records: Standing) -> Known:
    known = Known()
    for each in records:
        known.take(ACTIVE_KEY, to_json(each))
    return known


def test_a_candidate_goes_from_the_shadow_up_the_steps_to_champion() -> None:
    assert (FIRST.phase, FIRST.share_pct, FIRST.number) == ("shadow", 0, 1)
    second = advanced(FIRST, 2_000)
    third = advanced(second, 3_000)
    assert [(each.phase, each.share_pct) for each in (second, third)] == [
        ("ramp", 5),
        ("ramp", 100),
    ]
    last = advanced(third, 4_000)
    assert (last.phase, last.champion, last.previous, last.candidate) == ("active", NEW, OLD, None)
    assert (last.number, last.since_ms) == (4, 4_000)


def test_at_once_begins_with_the_last_step_and_the_champion_is_kept_beside_it() -> None:
    standing = begun(None, OLD, NEW, 1, plan=PLAN, guards=Guards(), at_once=True)
    assert (standing.phase, standing.share_pct, standing.champion) == ("ramp", 100, OLD)
    assert advanced(standing, 2).champion == NEW


def test_a_rollback_ends_a_trial_and_brings_the_champion_before_back() -> None:
    ended = rolled_back(advanced(FIRST, 2), 3, "it is worse")
    assert (ended.phase, ended.champion, ended.candidate) == ("rolled-back", OLD, NEW)
    assert (ended.share_pct, ended.reason) == (0, "it is worse")
    champion = advanced(advanced(advanced(FIRST, 2), 3), 4)
    back = rolled_back(champion, 5, "by hand")
    assert (back.phase, back.champion, back.previous) == ("rolled-back", OLD, None)


def test_of_two_records_that_follow_one_a_rollback_counts_whichever_came_first() -> None:
    on, back = advanced(FIRST, 2), rolled_back(FIRST, 2, "it is worse")
    for order in ((on, back), (back, on)):
        standing = told(FIRST, *order).standing
        assert standing is not None
        assert standing.phase == "rolled-back"


def test_a_record_from_before_is_not_taken_and_known_to_lie_on_top_of_the_topic() -> None:
    on = advanced(FIRST, 2)
    known = told(FIRST, on, FIRST)
    assert known.standing == on
    assert known.outdated
    known.take(ACTIVE_KEY, to_json(on.model_copy(update={"number": 3})))
    assert not known.outdated


def test_the_same_step_by_two_writers_is_no_contradiction() -> None:
    known = told(FIRST, advanced(FIRST, 2), advanced(FIRST, 3))
    assert not known.outdated


def test_records_survive_the_topic_and_broken_ones_are_passed_over() -> None:
    assert standing_from_json(to_json(FIRST)) == FIRST
    known = told(FIRST)
    known.take(ACTIVE_KEY, b'{"v":1}')
    known.take(b"report/0", b"nothing")
    assert known.standing == FIRST
    assert known.reports == {}
    with pytest.raises(StateError, match="number"):
        standing_from_json(b'{"v":1}')


def test_reports_of_one_rollout_add_up() -> None:
    known = Known()
    for key, rollout, pairs in (
        (b"report/0", "a", 3),
        (b"report/2", "a", 4),
        (b"report/1", "b", 9),
    ):
        known.take(key, to_json(Report(rollout=rollout, evidence=Evidence(pairs=pairs))))
    assert known.evidence("a").pairs == 7
    assert known.evidence("a", without=b"report/2").pairs == 3
    known.take(b"report/0", None)
    assert known.evidence("a").pairs == 4


@pytest.mark.parametrize(
    ("phase", "share", "after_s", "outcomes", "sessions", "over"),
    [
        ("shadow", 0, 59, 10, 0, False),
        ("shadow", 0, 60, 10, 0, True),  # no session has ended yet
        ("shadow", 0, 600, 9, 50, False),
        ("ramp", 50, 30, 10, 0, True),
        ("ramp", 100, 30, 10, 49, False),
        ("ramp", 100, 30, 10, 50, True),
    ],
)
def test_a_phase_ends_by_time_and_outcomes_and_the_last_one_by_sessions_too(
    phase: Phase, share: float, after_s: int, outcomes: int, sessions: int, over: bool
) -> None:
    plan = Plan(shadow_s=60, step_s=30, least_outcomes=10, least_sessions=50)
    changed = {"phase": phase, "share_pct": share, "plan": plan, "since_ms": 1_000}
    standing = FIRST.model_copy(update=changed)
    assert standing.phase_over(1_000 + after_s * 1_000, outcomes, sessions) is over


@pytest.mark.parametrize("steps", [(), (50,), (50, 10, 100), (10, 10, 100), (0, 100), (100, 200)])
def test_steps_that_do_not_rise_to_100_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="do not rise to 100"):
        Plan(steps_pct=steps)


def test_a_report_with_other_bins_is_passed_over() -> None:
    known = Known()
    report = Report(rollout=FIRST.rollout, evidence=Evidence(pairs=3))
    known.take(REPORT_PREFIX + b"0", to_json(report))
    other = to_json(report).replace(b'"champion_bins":[0,', b'"champion_bins":[')
    known.take(REPORT_PREFIX + b"1", other)
    assert known.evidence(FIRST.rollout).pairs == 3
