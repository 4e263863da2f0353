"""What every predictor keeps, the fake as well as the real one."""

from __future__ import annotations

import asyncio
import re
from array import array
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from clickpath.encoding import Encoder
from clickpath.errors import PredictorTimeout, PredictorUnavailable
from clickpath.vocabulary import ACTION_COUNT
from serving.embedded import EmbeddedPredictor, shipped_model
from serving.fake import FakePredictor
from serving.local_server.server import LocalServer
from serving.predictor import Predictor
from serving.switching import SwitchingPredictor
from serving.triton.address import Address
from serving.triton.predictor import connect

MakePath = Callable[..., "array[int]"]


@pytest.fixture(
    params=[
        "fake",
        "embedded",
        "switching",
        "incremental",
        pytest.param("triton", marks=pytest.mark.triton),
    ],
)
async def predictor(
    request: pytest.FixtureRequest, encoder: Encoder, model_directory: Path
) -> AsyncIterator[Predictor]:
    made: Predictor
    if request.param == "fake":
        made = FakePredictor(encoder)
    elif request.param == "switching":
        made = SwitchingPredictor(EmbeddedPredictor(model_directory, encoder))
    elif request.param == "embedded":
        made = EmbeddedPredictor(model_directory, encoder)
    elif request.param == "incremental":
        made = EmbeddedPredictor(shipped_model(), encoder, cache_bytes=1 << 20)
    else:
        server: LocalServer = request.getfixturevalue("tiny_triton")
        made = connect(Address(url=server.url), encoder)
    yield made
    await made.close()


async def test_it_names_its_model_and_its_encoder(predictor: Predictor, encoder: Encoder) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", predictor.digest)
    assert predictor.encoder_fingerprint == encoder.fingerprint


async def test_no_paths_give_no_scores(predictor: Predictor) -> None:
    assert list(await predictor.predict([], deadline_s=5)) == []


async def test_scores_are_probabilities_with_nothing_on_the_padding(
    predictor: Predictor, make_path: MakePath
) -> None:
    for scores in await predictor.predict([make_path(n) for n in (1, 9, 50)], deadline_s=5):
        assert len(scores.next_action) == ACTION_COUNT
        assert scores.next_action[0] == 0.0
        assert sum(scores.next_action) == pytest.approx(1.0, abs=1e-4)
        assert all(0.0 <= p <= 1.0 for p in (*scores.next_action, scores.purchase))


@pytest.mark.parametrize("size", [1, 2, 7, 64, 65, 130])
async def test_scores_depend_neither_on_the_neighbours_nor_on_the_size_of_a_batch(
    predictor: Predictor, make_path: MakePath, size: int
) -> None:
    paths = [make_path(1 + n * 11 % 50, seed=n) for n in range(130)]
    alone = [(await predictor.predict([path], deadline_s=5))[0] for path in paths]

    together = []
    for start in range(0, len(paths), size):
        together += await predictor.predict(paths[start : start + size], deadline_s=30)

    assert together == alone  # in the order of the paths, bit for bit
    assert len(set(alone)) > 100


async def test_no_score_depends_on_whose_path_it_is(
    predictor: Predictor, make_path: MakePath
) -> None:
    paths = [make_path(1 + n * 7 % 50, seed=n) for n in range(20)]
    expected = await predictor.predict(paths, deadline_s=30)

    for owner in (b"%d", b"somebody else %d", b"one for all"):
        keys = [owner.replace(b"%d", b"%d" % n) for n in range(20)]
        assert await predictor.predict(paths, deadline_s=30, keys=keys) == expected


async def test_calls_at_the_same_time_get_their_own_scores(
    predictor: Predictor, make_path: MakePath
) -> None:
    paths = [make_path(1 + n, seed=n) for n in range(20)]
    alone = [(await predictor.predict([path], deadline_s=5))[0] for path in paths]

    answers = await asyncio.gather(*(predictor.predict([p], deadline_s=30) for p in paths))

    assert [scores for (scores,) in answers] == alone


@pytest.mark.parametrize("deadline_s", [0.0, -1.0])
async def test_a_deadline_in_the_past_is_a_timeout(
    predictor: Predictor, make_path: MakePath, deadline_s: float
) -> None:
    with pytest.raises(PredictorTimeout):
        await predictor.predict([make_path(50)], deadline_s=deadline_s)

    assert len(await predictor.predict([make_path(50)], deadline_s=30)) == 1


async def test_a_call_that_was_cancelled_leaves_no_trace(
    predictor: Predictor, make_path: MakePath
) -> None:
    call = asyncio.ensure_future(predictor.predict([make_path(50)], deadline_s=30))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])

    assert len(await predictor.predict([make_path(50)], deadline_s=30)) == 1


async def test_a_closed_predictor_is_unavailable(predictor: Predictor, make_path: MakePath) -> None:
    await predictor.close()
    await predictor.close()

    with pytest.raises(PredictorUnavailable):
        await predictor.predict([make_path(3)], deadline_s=5)
