"""The guards: what breaks them, what does not, and from how large a sample on."""

import random

import pytest

from clickpath.scores import Scores
from clickpath.vocabulary import ACTION_COUNT
from serving.reference import psi
from stream.models.evidence import LEAST_OUTCOMES, Evidence, added
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
        evidence.add_outcome(sure_of(1, champion), sure_of(1, candidate), 1 + turn % 2)
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
        evidence.add_outcome(sure_of(1, ours), sure_of(1, theirs), 1)
    assert evidence.standard_error > 0.1
    assert evidence.log_loss_excess < 0.1 + 2 * evidence.standard_error
    assert evidence.broken(GUARDS) is None


def test_a_model_that_is_too_sure_breaks_the_calibration() -> None:
    evidence = outcomes(0.5, 0.9, 1_000)
    guards = Guards(log_loss_excess=100)
    assert "calibration" in str(evidence.broken(guards))
    assert evidence.calibration_excess == pytest.approx(0.4, abs=0.01)


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


def test_the_evidence_of_workers_adds_up() -> None:
    halves = [outcomes(0.5, 0.7, 40), outcomes(0.4, 0.7, 60)]
    for each in halves:
        each.add_pair(scores(0.2), scores(0.6), agreed=False)
    total = added(halves)
    assert (total.outcomes, total.pairs) == (100, 2)
    assert total.champion_loss == pytest.approx(sum(each.champion_loss for each in halves))
    assert sum(total.candidate_bins) == 2
    assert halves[0].outcomes == 40


def test_psi_is_nothing_for_equal_shares_and_grows_with_the_distance() -> None:
    assert psi([100, 300], [1_000, 3_000]) == pytest.approx(0, abs=1e-4)
    assert 0 < psi([500, 500], [550, 450]) < 0.1 < psi([500, 500], [800, 200])
