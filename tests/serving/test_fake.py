"""The fake predictor's faults come when they were ordered."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest

from clickpath.encoding import Encoder
from clickpath.errors import PredictorTimeout, PredictorUnavailable
from serving.fake import FakePredictor

MakePath = Callable[..., "array[int]"]


async def test_it_fails_the_calls_that_it_was_told_to(
    encoder: Encoder, make_path: MakePath
) -> None:
    predictor = FakePredictor(encoder, failing=lambda call: call == 1)

    first = await predictor.predict([make_path(3)], deadline_s=1)
    with pytest.raises(PredictorUnavailable):
        await predictor.predict([make_path(3)], deadline_s=1)
    third = await predictor.predict([make_path(3), make_path(4)], deadline_s=1)

    assert first[0] == third[0]
    assert predictor.batch_sizes == [1, 1, 2]


async def test_a_delay_beyond_the_deadline_is_a_timeout(
    encoder: Encoder, make_path: MakePath
) -> None:
    predictor = FakePredictor(encoder, delay_s=60.0)

    with pytest.raises(PredictorTimeout):
        await predictor.predict([make_path(3)], deadline_s=0.001)
