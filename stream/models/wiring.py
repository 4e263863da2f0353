"""Puts the parts of a rollout together that settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError
from serving.card import read_card
from serving.predictor import Predictor
from serving.reference import read_items
from serving.switching import SwitchingPredictor
from serving.versions import EmbeddedSource, VersionFolder
from stream.batch.app import BatchApp
from stream.drift import MOST, Drift, DriftOfWorker
from stream.models.rollout import Rollout
from stream.models.topic import Follower, Known
from stream.settings import Settings
from stream.wiring import cache_bytes, make_policy, model_directory


def versions_of(settings: Settings) -> VersionFolder:
    """The model repository that the settings name.

    Raises:
        ConfigError: They name none, or the key cannot be read.
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

    async def send(key: bytes, value: bytes | None) -> None:
        await app.send_plainly(topics.models, key, value)

    return Rollout(
        predictor=predictor,
        source=EmbeddedSource(
            versions_of(settings),
            encoder,
            {predictor.digest: model_directory(settings)},
            cache_bytes=cache_bytes(settings),
        ),
        follower=Follower(app.plain_consumer, topics.models, known),
        known=known,
        send=send,
        owned=lambda: [number for _, number in app.progress.assignment],
        policy=make_policy(settings),
        encoder=encoder,
        decisions=topics.decisions,
        deadline_s=settings.predict_deadline_s,
        clock=clock,
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
    if settings.model_repository and versions_of(settings).has(digest):
        return Path(settings.model_repository) / digest
    if settings.model == "none" or settings.triton_url:
        return None
    directory = model_directory(settings)
    return directory if read_card(directory).digest == digest else None
