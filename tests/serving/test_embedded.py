"""The embedded predictor: what it refuses to load, and what a slow run does to others."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch, PredictorTimeout, PredictorUnavailable
from clickpath.scores import Candidate
from clickpath.vocabulary import ACTION_COUNT, ACTIONS
from serving.batches import batches, time_buckets
from serving.card import CARD_FILE, HEADS_FILE, MODEL_FILE, Card, read_card, write_card
from serving.embedded import EmbeddedPredictor
from serving.graph import _RUNTIME_ERRORS
from serving.outputs import scores_of

MakePath = Callable[..., "array[int]"]

#: A path with this slowness keeps the tiny model busy for hours.
FOREVER = 1 << 39


def changed(card: Card, **fields: object) -> Card:
    return card.model_copy(update=fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "0" * 64}, "digest 0000000000000000, but model.onnx has"),
        ({"encoder": "0" * 16}, "trained with encoder 0000000000000000, the encoder in use is"),
        ({"steps": 20}, "reads paths of 20 steps, the window keeps 50"),
        ({"actions": (*ACTIONS[:-1], "wave")}, "has action 21 as 'wave', here it is 'other'"),
        ({"actions": ACTIONS[:-1]}, "has action 21 as nothing, here it is 'other'"),
        ({"heads": ("next_action",)}, "has no head purchase, which decisions need"),
        ({"heads": ("next_action", "purchase", "mood")}, "has a head mood, here are next_action"),
        ({"heads": ("next_action", "purchase", "leave")}, "has no output leave"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_with_both_values(
    model_directory: Path, card: Card, encoder: Encoder, fields: dict[str, object], message: str
) -> None:
    write_card(changed(card, **fields), model_directory)

    with pytest.raises(ModelMismatch, match=message):
        EmbeddedPredictor(model_directory, encoder)


def test_another_window_is_another_encoder(model_directory: Path, encoder: Encoder) -> None:
    wider = Encoder(replace(encoder.window, session_gap_ms=1))

    with pytest.raises(ModelMismatch, match=wider.fingerprint):
        EmbeddedPredictor(model_directory, wider)


def test_a_file_that_is_no_model_is_refused(
    model_directory: Path, card: Card, encoder: Encoder
) -> None:
    from hashlib import sha256

    (model_directory / MODEL_FILE).write_bytes(b"no model")
    write_card(changed(card, sha256=sha256(b"no model").hexdigest()), model_directory)

    with pytest.raises(ModelMismatch, match="onnxruntime cannot load"):
        EmbeddedPredictor(model_directory, encoder)


@pytest.mark.parametrize("missing", [MODEL_FILE, CARD_FILE])
def test_a_directory_without_model_or_card_is_refused(
    model_directory: Path, encoder: Encoder, missing: str
) -> None:
    (model_directory / missing).unlink()

    with pytest.raises(ModelMismatch, match=missing):
        EmbeddedPredictor(model_directory, encoder)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"colour": "blue"}, "colour"),
        ({"steps": "50"}, "steps"),
        ({"sha256": "abc"}, "sha256"),
        ({"format": 2}, "format"),
    ],
)
def test_a_card_of_another_form_is_refused_with_the_place(
    model_directory: Path, change: dict[str, Any], place: str
) -> None:
    path = model_directory / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ModelMismatch, match=f"is no model card: {place}"):
        read_card(model_directory)


def test_a_card_reads_as_it_was_written(model_directory: Path, card: Card) -> None:
    assert read_card(model_directory) == card


def test_every_error_of_the_runtime_is_mapped() -> None:
    raised = {
        value
        for value in vars(runtime_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }

    assert raised == set(_RUNTIME_ERRORS)


async def test_the_event_loop_goes_on_while_the_model_runs(
    model_directory: Path, encoder: Encoder, make_path: MakePath
) -> None:
    predictor = EmbeddedPredictor(model_directory, encoder)
    call = asyncio.ensure_future(
        predictor.predict([make_path(5, slowness=FOREVER)], deadline_s=0.3)
    )
    turns = 0
    while not call.done():
        await asyncio.sleep(0)
        turns += 1

    assert isinstance(call.exception(), PredictorTimeout)
    assert turns > 100
    await predictor.close()


async def test_a_run_that_nobody_waits_for_stops_and_frees_the_thread(
    model_directory: Path, encoder: Encoder, make_path: MakePath
) -> None:
    predictor = EmbeddedPredictor(model_directory, encoder)
    with pytest.raises(PredictorTimeout):
        await predictor.predict([make_path(5, slowness=FOREVER)], deadline_s=0.05)

    assert len(await predictor.predict([make_path(5)], deadline_s=30)) == 1
    await predictor.close()


async def test_a_call_behind_a_busy_thread_keeps_its_own_deadline(
    model_directory: Path, encoder: Encoder, make_path: MakePath
) -> None:
    predictor = EmbeddedPredictor(model_directory, encoder)
    stuck = asyncio.ensure_future(
        predictor.predict([make_path(5, slowness=FOREVER)], deadline_s=30)
    )
    await asyncio.sleep(0)

    with pytest.raises(PredictorTimeout):
        await predictor.predict([make_path(5)], deadline_s=0.05)

    assert not stuck.done()
    stuck.cancel()
    await asyncio.wait([stuck])
    assert len(await predictor.predict([make_path(5)], deadline_s=30)) == 1
    await predictor.close()


async def test_no_more_calls_than_the_limit_are_in_hand(
    model_directory: Path, encoder: Encoder, make_path: MakePath
) -> None:
    predictor = EmbeddedPredictor(model_directory, encoder, waiting_limit=2)
    calls = [
        asyncio.ensure_future(predictor.predict([make_path(5, slowness=FOREVER)], deadline_s=0.1))
        for _ in range(2)
    ]
    await asyncio.sleep(0)

    with pytest.raises(PredictorUnavailable, match="2 calls in hand"):
        await predictor.predict([make_path(5)], deadline_s=30)

    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [PredictorTimeout] * 2
    assert len(await predictor.predict([make_path(5)], deadline_s=30)) == 1
    await predictor.close()


def test_a_path_is_cut_to_the_shortest_length_that_holds_it(make_path: MakePath) -> None:
    assert time_buckets(50) == (8, 16, 32, 50)
    assert time_buckets(16) == (8, 16)
    paths = [make_path(n) for n in (1, 8, 9, 16, 17, 32, 33, 50)]

    cut = [(batch.rows.tolist(), batch.paths.shape) for batch in batches(paths, 50, 64)]

    assert cut == [
        ([0, 1], (2, 6, 8)),
        ([2, 3], (2, 6, 16)),
        ([4, 5], (2, 6, 32)),
        ([6, 7], (2, 6, 50)),
    ]


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, float("inf")])
def test_a_value_that_is_no_probability_never_becomes_a_score(value: float) -> None:
    next_action = np.full((1, ACTION_COUNT), 1 / 22, dtype=np.float32)
    purchase = np.array([value], dtype=np.float32)

    with pytest.raises(PredictorUnavailable, match="no probability"):
        scores_of({"next_action": next_action, "purchase": purchase})


def test_a_single_row_runs_twice_since_the_runtime_sums_it_otherwise(make_path: MakePath) -> None:
    [batch] = batches([make_path(3)], 50, 64)

    assert batch.rows.tolist() == [0, 0]
    assert batch.paths.shape == (2, 6, 8)


def test_heads_that_a_model_has_beside_the_required_ones_come_as_other_scores() -> None:
    half = np.full((2,), 0.5, dtype=np.float32)
    outputs = {
        "next_action": np.full((2, ACTION_COUNT), 1 / 22, dtype=np.float32),
        "next_item": np.array([[0.7, 0.2], [0.6, 0.1]], dtype=np.float32),
        "next_item_token": np.array([[11, 12], [13, 14]], dtype=np.int64),
        "purchase": half,
        "leave": half / 2,
    }

    first, second = scores_of(outputs)

    assert first.others is not None
    assert first.others.leave == 0.25
    assert first.others.return_7d is None
    assert first.others.next_item == (Candidate(11, 0.7), Candidate(12, 0.2))
    assert first.others.next_category == ()
    assert second.others is not None
    assert second.others.next_item[0].token == 13


def test_a_graph_with_every_head_needs_a_file_and_a_digest_of_its_own(
    model_directory: Path, card: Card, encoder: Encoder
) -> None:
    with pytest.raises(ModelMismatch, match=r"no model to read at .*heads\.onnx"):
        EmbeddedPredictor(model_directory, encoder, every_head=True)
    (model_directory / HEADS_FILE).write_bytes((model_directory / MODEL_FILE).read_bytes())
    with pytest.raises(ModelMismatch, match=r"digest none, but heads\.onnx has"):
        EmbeddedPredictor(model_directory, encoder, every_head=True)
    whole = changed(card, all_heads=card.heads, all_heads_sha256=card.sha256)
    write_card(whole, model_directory)
    assert EmbeddedPredictor(model_directory, encoder, every_head=True).digest == card.digest
