"""Puts the parts together that settings name: window, encoder, policy, predictor, handler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clickpath.encoding import Encoder
from clickpath.errors import ConfigError, UsageError
from clickpath.policy import Policy
from clickpath.policy_file import default_policy, load_policy
from clickpath.pseudonym import Edge, open_edge, pseudonyms
from serving.predictor import Predictor
from stream.batch.view import Store
from stream.handler import Handler
from stream.settings import Settings
from stream.spans import Tracer

if TYPE_CHECKING:
    from serving.repository.folder import TritonFolder
    from serving.triton.address import Address
    from serving.triton.channel import CallHeaders


def make_policy(settings: Settings) -> Policy:
    """The policy in the file that the settings name, or the shipped one.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: It is no policy; names file and line.
    """
    if not settings.policy:
        return default_policy()
    try:
        text = Path(settings.policy).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the policy {settings.policy}: {error}") from error
    return load_policy(text, settings.policy)


def make_edge(settings: Settings) -> Edge:
    """What makes pseudonyms, with the key in the file that the settings name.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: It holds no key.
    """
    if not settings.pseudonym_key_file:
        return open_edge
    try:
        key = Path(settings.pseudonym_key_file).read_bytes().strip()
    except OSError as error:
        raise UsageError(f"cannot read the key of the pseudonyms: {error}") from error
    return pseudonyms(key)


def make_predictor(
    settings: Settings, encoder: Encoder, *, wait_s: float = 30.0
) -> Predictor | None:
    """The predictor that the settings name; None for `none`.

    Args:
        settings: The settings.
        encoder: The encoder whose paths it will be given.
        wait_s: How long Triton, or the model there, may be missing.

    Raises:
        ModelMismatch: The model does not fit the encoder or its own card, or is not signed.
        PredictorUnavailable: Triton is named, and does not answer or has no such model.
        ConfigError: Settings of models that do not go together; or Triton is named with files that
            cannot be read, or refuses them.
    """
    check_models(settings)
    if settings.model == "none":
        return None
    if settings.triton_url:
        return _triton_predictor(settings, encoder, wait_s)
    from serving.embedded import EmbeddedPredictor

    return EmbeddedPredictor(model_directory(settings), encoder, cache_bytes=cache_bytes(settings))


def check_models(settings: Settings) -> None:
    """Refuses what would be ignored in silence, before anybody is asked.

    Raises:
        ConfigError: Settings of models that do not go together.
    """
    if settings.model_public_key_file and not (settings.model_repository or settings.triton_url):
        raise ConfigError(
            "CLICKPATH_MODEL_PUBLIC_KEY_FILE is set, but neither CLICKPATH_MODEL_REPOSITORY nor "
            "CLICKPATH_TRITON_URL: no signature would be checked"
        )
    if settings.triton_url and settings.model not in ("shipped", "none"):
        raise ConfigError(
            f"CLICKPATH_TRITON_URL is {settings.triton_url!r} and CLICKPATH_MODEL is "
            f"{settings.model!r}: only one of them can score"
        )
    if not settings.triton_url and (ignored := _changed(settings, "triton_")):
        raise ConfigError(
            f"CLICKPATH_{ignored[0].upper()} is {getattr(settings, ignored[0])!r}, but "
            "CLICKPATH_TRITON_URL is not set: no Triton would be asked"
        )
    if settings.triton_url and settings.incremental:
        raise ConfigError(
            "CLICKPATH_INCREMENTAL is for the model in the process, but CLICKPATH_TRITON_URL "
            f"is {settings.triton_url!r}"
        )


def _changed(settings: Settings, prefix: str) -> list[str]:
    """The settings of these names that are not at their default."""
    fields = Settings.model_fields.items()
    return [
        name
        for name, field in fields
        if name.startswith(prefix) and getattr(settings, name) != field.default
    ]


def cache_bytes(settings: Settings) -> int | None:
    """Memory for what a model in the process keeps of users' paths; None for nothing."""
    return settings.cache_mb << 20 if settings.incremental else None


def model_directory(settings: Settings) -> Path:
    """Where the model lies that the settings name."""
    from serving.embedded import shipped_model

    return shipped_model() if settings.model == "shipped" else Path(settings.model)


def triton_address(settings: Settings) -> Address:
    """Where Triton is, and how it is spoken to.

    Raises:
        ConfigError: That is no address, or a file cannot be read.
    """
    # Only now: its libraries are installed where Triton is used.
    from serving.triton.address import Address

    def file(name: str) -> Path | None:
        return Path(name) if name else None

    return Address(
        url=settings.triton_url,
        ca_file=file(settings.triton_ca_file),
        cert_file=file(settings.triton_cert_file),
        key_file=file(settings.triton_key_file),
        admin_key_file=file(settings.triton_admin_key_file),
        name=settings.triton_server_name or None,
    )


def triton_folder(settings: Settings) -> TritonFolder:
    """The repository that Triton and this program share.

    Raises:
        ConfigError: The key of the signatures cannot be read.
    """
    from serving.repository.folder import TritonFolder

    key = settings.model_public_key_file
    return TritonFolder(
        Path(settings.model_repository), settings.triton_model, Path(key) if key else None
    )


def _triton_predictor(settings: Settings, encoder: Encoder, wait_s: float) -> Predictor:
    from serving.manifest import read_public_key
    from serving.triton.predictor import connect

    version, key = settings.triton_version, settings.model_public_key_file
    if settings.model_repository:
        folder = triton_folder(settings)
        version = int(folder.directory(folder.first(version)).name)
    return connect(
        triton_address(settings),
        encoder,
        model=settings.triton_model,
        version=version,
        wait_s=wait_s,
        public_key=read_public_key(Path(key)) if key else None,
        call_headers=trace_headers(settings),
    )


def trace_headers(settings: Settings) -> CallHeaders | None:
    """The headers that carry a trace to Triton; None where nobody traces."""
    if not settings.otlp_endpoint:
        return None
    from stream.tracing import current_headers

    return current_headers


def make_store(settings: Settings) -> Store | None:
    """Where states are kept; None for memory.

    Raises:
        UsageError: RocksDB is not installed.
    """
    if settings.store == "memory":
        return None
    try:
        from stream.batch.disk import DiskStore
    except ModuleNotFoundError as error:
        raise UsageError("states on disk need rocksdict: pip install 'clickpath[disk]'") from error
    return DiskStore(Path(settings.store_dir))


def make_handler(settings: Settings, predictor: Predictor | None, encoder: Encoder) -> Handler:
    """The handler of these settings around a predictor."""
    return Handler(
        encoder=encoder,
        policy=make_policy(settings),
        predictor=predictor,
        topics=settings.topics,
        deadline_s=settings.predict_deadline_s,
        max_future_ms=settings.max_future_s * 1000,
        edge=make_edge(settings),
    )


def make_tracer(settings: Settings) -> Tracer | None:
    """The tracer to the collector that the settings name; None where they name none."""
    if not settings.otlp_endpoint:
        return None
    # Its library is an extra, and is loaded only where somebody wants traces.
    from stream.tracing import otlp_tracing

    return otlp_tracing(settings.otlp_endpoint, settings.app_id)
