"""Two versions behind one predictor: who scores what, and what a candidate's failure costs."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence

import pytest

from clickpath.encoding import Encoder
from clickpath.errors import PredictorTimeout, PredictorUnavailable
from clickpath.scores import Scores
from serving.fake import FakePredictor, fake_scores
from serving.switching import (
    FAILURES_IN_A_ROW,
    Candidacy,
    SwitchingPredictor,
    Version,
    of_candidate,
)

MakePath = Callable[..., "array[int]"]

OLD, NEW = "0" * 16, "1" * 16
KEYS = [b"user %d" % n for n in range(400)]


@pytest.fixture
def paths(make_path: MakePath) -> list[array[int]]:
    return [make_path(1 + n % 50, seed=n) for n in range(len(KEYS))]


async def tried(
    encoder: Encoder, candidate: FakePredictor, share: float
) -> tuple[SwitchingPredictor, FakePredictor]:
    champion = FakePredictor(encoder, digest=OLD)
    both = SwitchingPredictor(champion)
    await both.use(champion, Candidacy(Version(candidate), "rollout", share))
    return both, champion


def models_of(scores: Sequence[Scores]) -> list[str]:
    return [each.model for each in scores]


async def test_a_share_of_the_users_is_scored_by_the_candidate_and_each_score_says_so(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    both, _ = await tried(encoder, FakePredictor(encoder, digest=NEW), 0.25)
    scores = await both.predict(paths, 5, keys=KEYS)

    assert list(scores) == [fake_scores(path) for path in paths]
    chosen = [of_candidate("rollout", key.decode(), 0.25) for key in KEYS]
    assert models_of(scores) == [NEW if new else OLD for new in chosen]
    assert 60 < sum(chosen) < 140
    assert both.digest == OLD  # what stands for decisions without scores


async def test_whoever_is_in_a_share_is_in_every_larger_one(encoder: Encoder) -> None:
    users = [key.decode() for key in KEYS]
    small, large = (
        {user for user in users if of_candidate("rollout", user, share)} for share in (0.1, 0.5)
    )
    assert small
    assert small < large
    assert large != {user for user in users if of_candidate("another", user, 0.5)}


async def test_without_keys_and_in_the_shadow_the_champion_scores_everything(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    candidate = FakePredictor(encoder, digest=NEW)
    both, _ = await tried(encoder, candidate, 1.0)
    assert {*models_of(await both.predict(paths, 5))} == {OLD}
    both, _ = await tried(encoder, candidate, 0.0)
    assert {*models_of(await both.predict(paths, 5, keys=KEYS))} == {OLD}
    assert candidate.batch_sizes == []


async def test_the_champion_scores_what_a_failing_candidate_should_have(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    candidate = FakePredictor(encoder, digest=NEW, failing=lambda call: call == 1)
    both, champion = await tried(encoder, candidate, 0.5)
    await both.predict(paths, 5, keys=KEYS)
    scores = await both.predict(paths, 5, keys=KEYS)

    assert {*models_of(scores)} == {OLD}
    assert champion.batch_sizes[-1] == len(paths)  # in one call, not in two
    assert both.candidacy is not None
    assert (both.candidacy.version.calls, both.candidacy.version.failures) == (2, 1)
    assert NEW in models_of(await both.predict(paths, 5, keys=KEYS))


async def test_a_slow_candidate_takes_half_of_the_time_and_no_answer(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    both, _ = await tried(encoder, FakePredictor(encoder, digest=NEW, delay_s=60), 1.0)
    begun_s = asyncio.get_running_loop().time()
    scores = await both.predict(paths, 0.4, keys=KEYS)

    assert {*models_of(scores)} == {OLD}
    assert asyncio.get_running_loop().time() - begun_s < 30


async def test_a_candidate_that_fails_in_a_row_is_not_asked_any_more(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    candidate = FakePredictor(encoder, digest=NEW, failing=lambda call: True)
    both, _ = await tried(encoder, candidate, 1.0)
    for _ in range(FAILURES_IN_A_ROW + 2):
        assert {*models_of(await both.predict(paths, 5, keys=KEYS))} == {OLD}
    assert len(candidate.batch_sizes) == FAILURES_IN_A_ROW
    assert both.candidacy is not None
    assert both.candidacy.version.given_up


async def test_what_fails_for_the_champion_too_is_not_held_against_the_candidate(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    away = FakePredictor(encoder, digest=NEW, failing=lambda call: call > 0)
    champion = FakePredictor(encoder, digest=OLD, failing=lambda call: call > 0)
    both = SwitchingPredictor(champion)
    await both.use(champion, Candidacy(Version(away), "rollout", 0.5))
    await both.predict(paths, 5, keys=KEYS)
    for _ in range(FAILURES_IN_A_ROW + 2):
        with pytest.raises(PredictorUnavailable):
            await both.predict(paths, 5, keys=KEYS)
    assert both.candidacy is not None
    version = both.candidacy.version
    assert (version.calls, version.failures, version.given_up) == (1, 0, False)


async def test_a_failing_champion_is_an_error_as_it_is_alone(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    both = SwitchingPredictor(FakePredictor(encoder, failing=lambda call: True))
    with pytest.raises(PredictorUnavailable):
        await both.predict(paths, 5, keys=KEYS)
    both, _ = await tried(encoder, FakePredictor(encoder, delay_s=60), 1.0)
    with pytest.raises(PredictorTimeout):
        await both.predict(paths, 0.0, keys=KEYS)


async def test_a_candidate_becomes_the_champion_and_the_old_one_is_closed_after_its_last_call(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    old, new = FakePredictor(encoder, digest=OLD, delay_s=0.05), FakePredictor(encoder, digest=NEW)
    both = SwitchingPredictor(old)
    in_hand = asyncio.create_task(both.predict(paths, 5, keys=KEYS))
    await asyncio.sleep(0)
    assert old.batch_sizes
    await both.use(new)

    assert {*models_of(await both.predict(paths, 5, keys=KEYS))} == {NEW}
    assert {*models_of(await in_hand)} == {OLD}  # a switch takes nothing from a call in hand
    with pytest.raises(PredictorUnavailable, match="closed"):
        await old.predict(paths, 5)


async def test_a_switch_while_the_candidate_is_asked_costs_the_champion_s_users_no_scores(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    candidate = FakePredictor(encoder, digest=NEW, delay_s=0.2)
    both, champion = await tried(encoder, candidate, 0.5)
    call = asyncio.create_task(both.predict(paths, 60, keys=KEYS))
    await asyncio.sleep(0)
    await both.use(candidate)

    assert {*models_of(await call)} == {OLD, NEW}
    with pytest.raises(PredictorUnavailable):
        await champion.predict(paths, 5)  # closed by now


async def test_a_new_share_keeps_the_candidate_and_what_is_counted_of_it(
    encoder: Encoder, paths: list[array[int]]
) -> None:
    both, champion = await tried(encoder, FakePredictor(encoder, digest=NEW), 0.5)
    await both.predict(paths, 5, keys=KEYS)
    assert both.candidacy is not None
    version = both.candidacy.version
    await both.use(champion, Candidacy(version, "rollout", 1.0))
    assert {*models_of(await both.predict(paths, 5, keys=KEYS))} == {NEW}
    assert version.calls == 2
