"""A predictor that is not there yet: refused until it is, and never used if it does not fit."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable

import pytest

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch, PredictorUnavailable
from serving.fake import FakePredictor, fake_scores
from serving.late import LatePredictor
from serving.predictor import Predictor

MakePath = Callable[..., "array[int]"]


def late(encoder: Encoder, answers: Iterable[Predictor | Exception], **more: str) -> LatePredictor:
    left = iter(answers)

    async def reach() -> Predictor:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return LatePredictor(reach, encoder.fingerprint, pause_s=0.0, **more)


async def test_until_it_is_there_calls_are_refused_with_the_reason_and_then_it_scores(
    encoder: Encoder, make_path: MakePath
) -> None:
    there, away = FakePredictor(encoder), PredictorUnavailable("Triton is away")
    predictor = late(encoder, [away, away, there])
    assert (predictor.digest, predictor.call_counts().breaker) == ("none", "opened")
    with pytest.raises(PredictorUnavailable, match="not been asked yet"):
        await predictor.predict([make_path(3)], 5)

    await predictor.arrive()

    assert predictor.why is None
    assert predictor.digest == there.digest
    assert predictor.call_counts().breaker == "closed"
    assert await predictor.predict([make_path(3)], 5) == [fake_scores(make_path(3))]
    await predictor.close()
    with pytest.raises(PredictorUnavailable):
        await there.predict([make_path(3)], 5)


async def test_a_model_that_does_not_fit_ends_the_waiting_and_scores_nothing(
    encoder: Encoder, make_path: MakePath
) -> None:
    away, wrong = PredictorUnavailable("Triton is away"), ModelMismatch("another encoder")
    predictor = late(encoder, [away, wrong], digest="1" * 16)
    with pytest.raises(ModelMismatch, match="another encoder"):
        await predictor.arrive()
    with pytest.raises(PredictorUnavailable, match="Triton is away"):
        await predictor.predict([make_path(3)], 5)
    assert predictor.digest == "1" * 16


async def test_one_that_was_put_aside_is_closed_when_it_comes(
    encoder: Encoder, make_path: MakePath
) -> None:
    there, asked, go = FakePredictor(encoder), asyncio.Event(), asyncio.Event()

    async def reach() -> Predictor:
        asked.set()
        await go.wait()
        return there

    predictor = LatePredictor(reach, encoder.fingerprint)
    arriving = asyncio.create_task(predictor.arrive())
    await asked.wait()
    await predictor.close()
    go.set()
    await arriving
    assert predictor.why is not None
    with pytest.raises(PredictorUnavailable):
        await there.predict([make_path(3)], 5)
