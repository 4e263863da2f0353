"""Drift: ordinary traffic stays below what means a change, and each change shows in its figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from pathlib import Path
from shutil import copytree

import pytest

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.events import Click
from clickpath.window import Window
from clickpath.wire import click_to_json
from clickpath.wire.state import UserState
from serving.card import CARD_FILE
from serving.embedded import EmbeddedPredictor, shipped_model
from stream.batch.records import Chunk, RawRecord
from stream.drift import LEAST, Drift, DriftOfWorker
from stream.models.wiring import drift_of, make_drift
from stream.settings import Settings
from stream.wiring import make_handler

SETTINGS = Settings()
MODEL = EmbeddedPredictor(shipped_model(), Encoder(Window()))


def new_counts(digest: str) -> Drift | None:
    return drift_of(SETTINGS, digest, most=inf)


async def figures(clicks: Iterable[Click]) -> dict[str, float]:
    """What a worker would tell after these clicks."""
    handler = make_handler(SETTINGS, MODEL, Encoder(SETTINGS.window))
    watched = DriftOfWorker(new_counts, SETTINGS.window, SETTINGS.topics.decisions)
    users: dict[bytes, UserState] = {}
    records = [
        RawRecord(n, 0, each.user_id.encode(), click_to_json(each), ())
        for n, each in enumerate(clicks)
    ]
    for start in range(0, len(records), 50):
        chunk = Chunk("clicks", 0, records[start : start + 50])
        outcome = await handler.handle(chunk, users, simulation.START_MS + 10**11)
        users.update(outcome.users)
        watched.after_chunk(MODEL.digest, outcome.outputs, outcome.users, float(start))
    assert watched.drift is not None
    return watched.drift.figures()


@pytest.fixture(scope="module")
def clicks() -> list[Click]:
    return list(simulation.simulate(24_000, 480, seed=77))


async def test_ordinary_traffic_is_no_drift(clicks: list[Click]) -> None:
    found = await figures(clicks)
    assert {*found} == {
        *("psi_action", "psi_price", "psi_gap", "psi_purchase", "unknown_items", "calibration")
    }
    assert max(value for name, value in found.items() if name.startswith("psi_")) < 0.25
    assert abs(found["calibration"]) < 0.1
    assert found["unknown_items"] < 0.05


def dearer(click: Click) -> Click:
    items = tuple(
        replace(item, price_cents=None if item.price_cents is None else item.price_cents * 8)
        for item in click.items
    )
    return replace(click, items=items)


def renamed(click: Click) -> Click:
    return replace(
        click, items=tuple(replace(item, item_id=f"new-{item.item_id}") for item in click.items)
    )


def searching(click: Click) -> Click:
    return (
        replace(click, action="search", type_name="search")
        if click.action == "view_item"
        else click
    )


@pytest.mark.parametrize(
    ("change", "figure", "above"),
    [
        (dearer, "psi_price", 0.25),
        (renamed, "unknown_items", 0.9),
        (searching, "psi_action", 0.25),
    ],
)
async def test_a_change_of_the_shop_shows_in_its_figure(
    clicks: list[Click], change: Callable[[Click], Click], figure: str, above: float
) -> None:
    found = await figures(map(change, clicks))
    assert found[figure] > above


def test_nothing_is_told_of_a_sample_that_is_too_small(clicks: list[Click]) -> None:
    counts = new_counts(MODEL.digest)
    assert counts is not None
    for _ in range(LEAST - 1):
        counts.add_score(7, 0.5)
        counts.add_outcome((0.0, 1.0), 1)
    assert counts.figures() == {}
    counts.add_score(7, 0.5)
    counts.add_outcome((0.0, 1.0), 1)
    assert {*counts.figures()} == {"psi_purchase", "calibration"}


def test_the_counts_forget_the_distant_past() -> None:
    counts = drift_of(SETTINGS, MODEL.digest, most=400)
    assert counts is not None
    for _ in range(400):
        counts.add_outcome((0.0, 1.0, 0.0), 2)  # sure, and wrong
    wrong = counts.figures()["calibration"]
    for _ in range(2_000):
        counts.add_outcome((0.0, 1.0, 0.0), 1)
    assert wrong == 1.0
    assert counts.figures()["calibration"] < 0.05


def test_a_model_that_is_not_here_has_no_reference() -> None:
    assert drift_of(SETTINGS, "0" * 16) is None


def test_a_model_whose_files_have_gone_bad_ends_the_watch_and_not_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copytree(shipped_model(), tmp_path / "model")
    settings = Settings(model=str(tmp_path / "model"))
    (tmp_path / "model" / CARD_FILE).write_text("{")
    watched = make_drift(settings)

    watched.after_chunk(MODEL.digest, (), {}, 0.0)
    assert watched.drift is None
    assert f"drift is not watched for the model {MODEL.digest}" in caplog.text
