"""The model that ships with the package fits the encoder that ships with it."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from clickpath.encoding import Encoder
from clickpath.window import Window
from serving.embedded import EmbeddedPredictor, shipped_model

MakePath = Callable[..., "array[int]"]


async def test_the_shipped_model_loads_and_does_not_depend_on_its_batch(
    make_path: MakePath,
) -> None:
    predictor = EmbeddedPredictor(shipped_model(), Encoder(Window()))
    paths = [make_path(1 + n % 50, seed=n) for n in range(71)]

    together = await predictor.predict(paths, deadline_s=30)
    alone = [(await predictor.predict([path], deadline_s=30))[0] for path in paths]

    assert list(together) == alone
    await predictor.close()
