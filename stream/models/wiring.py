"""Puts the parts of a rollout together that settings name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError
from serving.card import read_card
from serving.late import LatePredictor
from serving.predictor import Predictor
from serving.reference import read_items
from serving.switching import SwitchingPredictor
from serving.versions import EmbeddedSource, ModelSource, VersionFolder, Versions
from stream.batch.app import BatchApp
from stream.drift import MOST, Drift, DriftOfWorker
from stream.models.rollout import Rollout
from stream.models.topic import Follower, Known, Writer
from stream.settings import Settings
from stream.wiring import (
    cache_bytes,
    check_models,
    make_policy,
    make_predictor,
    model_directory,
    trace_headers,
    triton_address,
    triton_folder,
)


def predictor_of_worker(settings: Settings, encoder: Encoder) -> Predictor | None:
    """The predictor of a worker, which does not wait for Triton; None for `none`.

    Raises:
        ModelMismatch: The model does not fit the encoder or its own card.
        UsageError: There is no version in the repository that Triton shares.
        ConfigError: Settings that do not go together, or files that cannot be read.
    """
    check_models(settings)
    if settings.model == "none" or not settings.triton_url:
        return make_predictor(settings, encoder)
    address = triton_address(settings)
    if not settings.model_repository:

        async def reach() -> Predictor:
            found = await asyncio.to_thread(make_predictor, settings, encoder, wait_s=0.0)
            assert found is not None
            return found

        return LatePredictor(reach, encoder.fingerprint)
    from serving.triton.source import TritonSource

    folder = triton_folder(settings)
    first = folder.first(settings.triton_version)
    source = TritonSource(address, folder, encoder, call_headers=trace_headers(settings))
    return LatePredictor(
        lambda: source.load(first), encoder.fingerprint, digest=first, source=source
    )


def versions_of(settings: Settings) -> Versions:
    """The model repository that the settings name: Triton's, or one of the workers' own.

    Raises:
        ConfigError: They name none, or the key cannot be read.
    """
    if settings.model_repository and settings.triton_url:
        return triton_folder(settings)
    return folder_of(settings)


def folder_of(settings: Settings) -> VersionFolder:
    """The folder of versions that workers run themselves.

    Raises:
        ConfigError: The settings name none, or the key cannot be read.
    """
    if not settings.model_repository:
        raise ConfigError("CLICKPATH_MODEL_REPOSITORY is not set: there is no model repository")
    key = settings.model_public_key_file
    return VersionFolder(Path(settings.model_repository), Path(key) if key else None)


def switching(settings: Settings, predictor: Predictor | None) -> SwitchingPredictor | None:
    """What switches between versions, beginning with a predictor; None without a repository.

    Raises:
        ConfigError: There is a repository, and no model to begin with.
    """
    if not settings.model_repository:
        return None
    if predictor is None:
        raise ConfigError(
            "CLICKPATH_MODEL is 'none', but CLICKPATH_MODEL_REPOSITORY is set: "
            "candidates are compared with a model that decides"
        )
    return SwitchingPredictor(predictor)


def make_rollout(
    settings: Settings, predictor: SwitchingPredictor, app: BatchApp, clock: Callable[[], int]
) -> Rollout:
    """A worker's part in rollouts; nothing connects before it is started."""
    encoder, topics = Encoder(settings.window), settings.topics
    known = Known()
    return Rollout(
        predictor=predictor,
        source=_source_beside(predictor.champion.predictor, settings, encoder),
        follower=Follower(app.plain_consumer, topics.models, known),
        known=known,
        writer=Writer(app.plain_producer, topics.models),
        owned=lambda: [number for _, number in app.progress.assignment],
        policy=make_policy(settings),
        encoder=encoder,
        decisions=topics.decisions,
        deadline_s=settings.predict_deadline_s,
        clock=clock,
    )


def _source_beside(champion: Predictor, settings: Settings, encoder: Encoder) -> ModelSource:
    """Where other versions come from than the one that decides at the start."""
    if isinstance(champion, LatePredictor) and champion.source is not None:
        return champion.source
    return EmbeddedSource(
        versions_of(settings),
        encoder,
        {champion.digest: model_directory(settings)},
        cache_bytes=cache_bytes(settings),
    )


def make_drift(settings: Settings) -> DriftOfWorker:
    """Counts of what a worker sees, beside the reference of the model that decides."""
    return DriftOfWorker(
        lambda digest: drift_of(settings, digest), settings.window, settings.topics.decisions
    )


def drift_of(settings: Settings, digest: str, most: float = MOST) -> Drift | None:
    """Empty counts beside the reference of a model; None where there is no such model or none.

    Raises:
        ModelMismatch: What lies beside the model cannot be read.
    """
    directory = _directory_of(settings, digest)
    if directory is None:
        return None
    reference = read_card(directory).reference
    if reference is None:
        return None
    return Drift(reference, read_items(directory), Encoder(settings.window), most)


def _directory_of(settings: Settings, digest: str) -> Path | None:
    if settings.model_repository and (versions := versions_of(settings)).has(digest):
        return versions.directory(digest)
    if settings.model == "none" or settings.triton_url:
        return None
    directory = model_directory(settings)
    return directory if read_card(directory).digest == digest else None
