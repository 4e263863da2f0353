"""A worker that follows models: what ends it is seen, and its metrics are of the model at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from aiokafka import AIOKafkaProducer

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError, ModelMismatch, PredictorUnavailable
from clickpath.policy_file import default_policy
from clickpath.window import Window
from serving.fake import FakePredictor
from serving.late import LatePredictor
from serving.predictor import Predictor
from serving.switching import SwitchingPredictor
from serving.versions import ModelSource
from stream.app import Worker, create_app
from stream.models.record import ACTIVE_KEY, Guards, Plan, begun, to_json
from stream.models.rollout import Rollout
from stream.models.topic import Follower, Known, Writer
from stream.models.wiring import make_drift
from stream.personal_ids import PersonalIds
from stream.placement import Placement
from stream.settings import Settings
from stream.watch import Watch
from stream.wiring import make_predictor

ENCODER = Encoder(Window())


class Broken:
    """A follower that fails in a way that nobody foresaw."""

    async def start(self) -> None:
        """Begins."""

    async def read(self) -> None:
        """Fails."""
        raise RuntimeError("out of luck")

    async def stop(self) -> None:
        """Ends."""


class Quiet(Broken):
    """A follower to which nothing comes."""

    async def read(self) -> None:
        """Waits for ever."""
        await asyncio.Event().wait()


def unmade() -> AIOKafkaProducer:
    """No producer is wanted."""
    raise AssertionError("there is nothing to send")


class Silent(Writer):
    """Writes nothing."""

    async def start(self) -> None:
        """Begins."""


class Unloadable:
    """Versions with which the settings do not go together."""

    async def load(self, version: str) -> Predictor:
        """Refuses."""
        raise ConfigError(f"a cache of 1 bytes holds no user of {version}")

    async def close(self) -> None:
        """Nothing is shared."""


def rollout_with(
    follower: Broken,
    known: Known,
    source: ModelSource | None = None,
    champion: Predictor | None = None,
) -> Rollout:
    return Rollout(
        predictor=SwitchingPredictor(champion or FakePredictor(ENCODER)),
        source=source or Unloadable(),
        follower=cast(Follower, follower),
        known=known,
        writer=Silent(unmade, "models"),
        owned=lambda: [1],
        policy=default_policy(),
        encoder=ENCODER,
        decisions="decisions",
        deadline_s=1.0,
        clock=lambda: 0,
    )


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    settings = Settings(
        model_repository=str(tmp_path), incremental=True, cache_mb=2, bootstrap_servers="[::1]:1"
    )
    predictor = make_predictor(settings, ENCODER)
    worker = create_app(settings, predictor, lambda: 0)
    yield worker
    assert worker.rollout is not None
    await worker.rollout.predictor.close()


def watch_of(worker: Worker, rollout: Rollout) -> Watch:
    return Watch(
        app=worker.app,
        users=worker.users,
        handler=worker.handler,
        metrics=worker.metrics,
        placement=Placement(lambda _: 0),
        personal_ids=PersonalIds(pseudonyms=False),
        drift=make_drift(Settings()),
        predictor=None,
        rollout=rollout,
        archive=None,
        clock=lambda: 0,
        stalled_after_s=1.0,
        unready_after_s=1.0,
    )


async def test_a_worker_that_follows_no_more_says_so_and_is_not_alive(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = rollout_with(Broken(), Known())
    watch = watch_of(worker, rollout)
    assert watch.alive().ok
    await rollout.start()
    for _ in range(3):  # turns of the loop: the read, its end, what is told of it
        await asyncio.sleep(0)
    assert rollout.ended

    assert not watch.alive().ok
    assert "not followed any more" in watch.alive().why
    await rollout.stop()
    assert "out of luck" in caplog.text
    assert not rollout.ended


async def test_a_version_that_the_settings_refuse_leaves_the_model_at_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = Known()
    rollout = rollout_with(Quiet(), known)
    digest = rollout.predictor.digest
    standing = begun(None, digest, "1" * 16, 0, plan=Plan(), guards=Guards())
    known.take(ACTIVE_KEY, to_json(standing))

    await rollout.start()
    assert rollout.predictor.digest == digest
    assert "a cache of 1 bytes holds no user" in caplog.text
    await rollout.stop()


class Shelf:
    """Versions of which some cannot be loaded."""

    def __init__(self, broken: str, error: Exception) -> None:
        self.loaded: list[FakePredictor] = []
        self._broken = broken
        self._error = error

    async def load(self, version: str) -> Predictor:
        """Loads it, or fails."""
        if version == self._broken:
            raise self._error
        self.loaded.append(FakePredictor(ENCODER, digest=version))
        return self.loaded[-1]

    async def close(self) -> None:
        """Nothing is shared."""


async def test_the_champion_of_the_topic_decides_while_its_candidate_cannot_be_loaded() -> None:
    known, shelf = Known(), Shelf("2" * 16, ModelMismatch("more.bin is not in the manifest"))
    rollout = rollout_with(Quiet(), known, shelf)
    before = rollout.predictor.champion.predictor
    standing = begun(None, "1" * 16, "2" * 16, 0, plan=Plan(), guards=Guards())
    known.take(ACTIVE_KEY, to_json(standing))

    await rollout.start()
    assert rollout.predictor.digest == "1" * 16
    assert len(shelf.loaded) == 1
    with pytest.raises(PredictorUnavailable, match="closed"):
        await before.predict([ENCODER.encode_steps(())], 1.0)
    await rollout.stop()
    await rollout.close()
    with pytest.raises(PredictorUnavailable, match="closed"):
        await shelf.loaded[0].predict([ENCODER.encode_steps(())], 1.0)


async def test_a_model_that_is_late_says_why_and_is_loaded_when_the_topic_names_it() -> None:
    known, shelf = Known(), Shelf("1" * 16, PredictorUnavailable("Triton is away"))
    late = LatePredictor(lambda: shelf.load("1" * 16), ENCODER.fingerprint, digest="1" * 16)
    rollout = rollout_with(Quiet(), known, shelf, late)
    known.take(
        ACTIVE_KEY, to_json(begun(None, "1" * 16, "2" * 16, 0, plan=Plan(), guards=Guards()))
    )
    await rollout.start()
    assert rollout.predictor.champion.predictor is late
    assert late.why == "Triton is away"
    await rollout.stop()

    there = Shelf("", PredictorUnavailable(""))
    rollout = rollout_with(Quiet(), known, there, late)
    await rollout.start()
    assert [each.digest for each in there.loaded] == ["1" * 16, "2" * 16]
    assert rollout.predictor.champion.predictor is there.loaded[0]
    await rollout.stop()


async def test_after_a_switch_the_metrics_of_the_cache_are_of_all_versions(worker: Worker) -> None:
    assert worker.rollout is not None
    switching = worker.rollout.predictor
    fresh = make_predictor(Settings(incremental=True, cache_mb=2), ENCODER)
    assert fresh is not None
    await switching.use(fresh)
    paths = [ENCODER.encode_steps(())]
    await switching.predict(paths, 30.0, keys=[b"u"])
    cached = switching.cache_counts()
    assert cached is not None
    assert cached.misses == 1
    assert "clickpath_cache_misses_total 1.0" in watch_of(worker, worker.rollout).page().decode()
