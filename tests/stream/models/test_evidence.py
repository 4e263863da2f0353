"""The guards: what breaks them, what does not, and from how large a sample on."""

import random

import pytest

from clickpath.scores import Scores
from clickpath.vocabulary import ACTION_COUNT
from serving.reference import psi
from stream.models.evidence import (
    LEAST_OUTCOMES,
    LEAST_SESSIONS,
    LEAST_TIMED,
    Evidence,
    added,
)
from stream.models.record import Guards

GUARDS = Guards()


def sure_of(action: int, p: float) -> tuple[float, ...]:
    rest = (1 - p) / (ACTION_COUNT - 2)
    return (0.0, *(p if n == action else rest for n in range(1, ACTION_COUNT)))


def scores(purchase: float) -> Scores:
    return Scores(sure_of(1, 0.5), purchase)


def outcomes(champion: float, candidate: float, n: int) -> Evidence:
    """Both name action 1 with these probabilities, and it comes in half of the cases."""
    evidence = Evidence()
    for turn in range(n):
        evidence.action.add_action(sure_of(1, champion), sure_of(1, candidate), 1 + turn % 2)
    return evidence


def test_two_models_that_say_the_same_break_nothing() -> None:
    evidence = outcomes(0.5, 0.5, 1_000)
    for n in range(1_000):
        evidence.add_pair(scores(n / 1_000), scores(n / 1_000), agreed=True)
    assert evidence.broken(GUARDS) is None
    assert evidence.figures()["mean_difference"] == 0
    assert evidence.psi == 0


def test_a_model_that_is_wrong_and_sure_breaks_the_log_loss() -> None:
    evidence = outcomes(0.5, 0.98, 60)
    assert "nats of log loss" in str(evidence.broken(GUARDS))
    assert outcomes(0.98, 0.5, 60).broken(GUARDS) is None  # the other way round it is better


def test_a_guard_looks_at_no_sample_that_is_too_small() -> None:
    assert outcomes(0.5, 0.98, LEAST_OUTCOMES - 1).broken(GUARDS) is None
    assert outcomes(0.5, 0.98, LEAST_OUTCOMES).broken(GUARDS) is not None


def test_a_difference_within_its_error_breaks_nothing() -> None:
    luck = random.Random(1)
    evidence = Evidence()
    for _ in range(LEAST_OUTCOMES):
        ours, theirs = luck.uniform(0.05, 0.95), luck.uniform(0.05, 0.95)
        evidence.action.add_action(sure_of(1, ours), sure_of(1, theirs), 1)
    assert evidence.action.standard_error > 0.1
    assert evidence.action.log_loss_excess < 0.1 + 2 * evidence.action.standard_error
    assert evidence.broken(GUARDS) is None


def test_a_model_that_is_too_sure_breaks_the_calibration() -> None:
    evidence = outcomes(0.5, 0.9, 1_000)
    guards = Guards(log_loss_excess=100)
    assert "calibration" in str(evidence.broken(guards))
    assert evidence.action.calibration_excess == pytest.approx(0.4, abs=0.01)


def test_scores_that_moved_break_the_psi_and_other_decisions_the_agreement() -> None:
    moved, other = Evidence(), Evidence()
    for n in range(500):
        moved.add_pair(scores(0.01), scores(0.9), agreed=True)
        other.add_pair(scores(0.3), scores(0.3), agreed=n % 3 == 0)
    assert "PSI" in str(moved.broken(GUARDS))
    assert "decisions would be others" in str(other.broken(GUARDS))


def test_failures_break_from_some_calls_on() -> None:
    assert Evidence(calls=10, failures=5).broken(GUARDS) is None
    assert "calls failed" in str(Evidence(calls=40, failures=3).broken(GUARDS))
    assert Evidence(calls=40, failures=2).broken(GUARDS) is None


def sessions(champion: float, candidate: float, n: int, rate: float = 0.1) -> Evidence:
    """Both give a purchase these probabilities, and it comes at this rate."""
    evidence = Evidence()
    for turn in range(n):
        evidence.purchase.add_yes_or_no(champion, candidate, turn % 100 < 100 * rate)
    return evidence


def test_a_model_that_is_worse_in_purchases_only_breaks_their_log_loss() -> None:
    assert "log loss of purchases above" in str(sessions(0.1, 0.6, 400).broken(GUARDS))
    assert sessions(0.6, 0.1, 400).broken(GUARDS) is None
    assert sessions(0.1, 0.1, 400).broken(GUARDS) is None


def test_a_model_that_says_too_few_purchases_breaks_their_calibration() -> None:
    evidence = sessions(0.3, 0.05, 2_000, rate=0.3)
    loose = Guards(purchase_log_loss_excess=100)
    assert "calibration of purchases" in str(evidence.broken(loose))
    assert evidence.purchase.calibration_excess == pytest.approx(0.25)


def ends(champion: float, candidate: float, n: int) -> Evidence:
    """Both give the end of the session these probabilities, and it comes in a fifth."""
    evidence = Evidence()
    for turn in range(n):
        evidence.leave.add_yes_or_no(champion, candidate, turn % 5 == 0)
    return evidence


def test_a_model_that_is_worse_in_who_leaves_only_breaks_its_own_guards() -> None:
    assert "log loss of sessions' ends above" in str(ends(0.2, 0.7, 400).broken(GUARDS))
    loose = Guards(leave_log_loss_excess=100)
    assert "calibration of sessions' ends" in str(ends(0.2, 0.7, 400).broken(loose))
    assert ends(0.2, 0.7, LEAST_SESSIONS - 1).broken(GUARDS) is None
    assert ends(0.7, 0.2, 400).broken(GUARDS) is None
    assert ends(0.2, 0.2, 400).broken(GUARDS) is None
    assert ends(0.2, 0.7, 400).figures()["leave_sessions"] == 400


def test_purchases_are_looked_at_from_so_many_sessions_on() -> None:
    assert sessions(0.1, 0.9, LEAST_SESSIONS - 1).broken(GUARDS) is None
    assert sessions(0.1, 0.9, LEAST_SESSIONS).broken(GUARDS) is not None


def test_equal_models_break_no_purchase_guard_whatever_their_luck() -> None:
    for seed in range(50):
        luck, evidence = random.Random(seed), Evidence()
        for _ in range(LEAST_SESSIONS):
            p = luck.betavariate(1, 9)
            ours, theirs = (min(max(p + luck.gauss(0, 0.02), 0.001), 0.999) for _ in range(2))
            evidence.purchase.add_yes_or_no(ours, theirs, luck.random() < p)
        assert evidence.broken(GUARDS) is None, seed


def timed(slowdown: float, n: int, noise: float = 0.3) -> Evidence:
    luck, evidence = random.Random(5), Evidence()
    for _ in range(n):
        ours, theirs = (0.002 * luck.lognormvariate(0, noise) for _ in range(2))
        evidence.add_times(ours, theirs * slowdown)
    return evidence


def test_a_model_that_takes_three_times_as_long_breaks_the_slowdown() -> None:
    assert "times as long as the champion" in str(timed(3, LEAST_TIMED).broken(GUARDS))
    assert timed(3, LEAST_TIMED - 1).broken(GUARDS) is None
    assert timed(3, 100).slowdown == pytest.approx(3, rel=0.2)


def test_one_call_that_stood_still_is_no_slowdown() -> None:
    evidence = timed(1, 200)
    evidence.add_times(0.002, 5.0)
    assert evidence.candidate_s > 5 * evidence.champion_s
    assert evidence.broken(GUARDS) is None


def test_the_evidence_of_workers_adds_up() -> None:
    halves = [outcomes(0.5, 0.7, 40), outcomes(0.4, 0.7, 60)]
    for each in halves:
        each.add_pair(scores(0.2), scores(0.6), agreed=False)
        each.purchase.add_yes_or_no(0.2, 0.3, came=True)
        each.add_times(0.001, 0.002)
    total = added(halves)
    assert (total.action.outcomes, total.pairs) == (100, 2)
    losses = [each.action.champion_loss for each in halves]
    assert total.action.champion_loss == pytest.approx(sum(losses))
    assert sum(total.candidate_bins) == 2
    assert (total.purchase.outcomes, total.purchase.champion_right, total.timed) == (2, 2, 2)
    assert total.slowdown == pytest.approx(2)
    assert halves[0].action.outcomes == 40


def test_psi_is_nothing_for_equal_shares_and_grows_with_the_distance() -> None:
    assert psi([100, 300], [1_000, 3_000]) == pytest.approx(0, abs=1e-4)
    assert 0 < psi([500, 500], [550, 450]) < 0.1 < psi([500, 500], [800, 200])
