"""Puts the parts of a rollout together that settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError
from serving.predictor import Predictor
from serving.switching import SwitchingPredictor
from serving.versions import EmbeddedSource, VersionFolder
from stream.batch.app import BatchApp
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
