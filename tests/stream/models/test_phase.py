"""A phase ends by what was scored in it, not by what still comes of earlier paths."""

from stream.models.evidence import Evidence
from stream.models.foretold import Foretold
from stream.models.phase import PhaseCount


def known(outcomes: int, pairs: int) -> Evidence:
    return Evidence(pairs=pairs, action=Foretold(outcomes=outcomes))


def test_outcomes_count_from_the_beginning_of_each_phase() -> None:
    count = PhaseCount()
    assert count.outcomes(1, known(0, 0)) == 0
    assert count.outcomes(1, known(40, 60)) == 40
    assert count.outcomes(2, known(45, 70)) == 0
    assert count.outcomes(2, known(55, 90)) == 10


def test_outcomes_of_paths_from_an_earlier_phase_end_none_while_nothing_is_scored() -> None:
    count = PhaseCount()
    count.outcomes(1, known(100, 4_000))
    count.outcomes(2, known(100, 4_000))
    assert count.outcomes(2, known(3_000, 4_000)) == 0
    assert count.outcomes(2, known(3_050, 4_020)) == 20


def test_another_worker_that_leads_counts_a_phase_anew() -> None:
    assert PhaseCount().outcomes(7, known(500, 900)) == 0
