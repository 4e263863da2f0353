"""Settings that another one leaves without effect.

What contradicts itself is refused where it is read. What is merely idle is said once, when a worker
starts: whoever sets `CLICKPATH_MODEL=none` in a bad night is not to clear up the rest first.
"""

from __future__ import annotations

from collections.abc import Iterator

from stream.settings import PREFIX, Settings

_OF_ARCHIVE = ("archive_buckets", "archive_flush_s", "archive_buffer_mb")
_OF_MODELS = ("triton_url", "incremental", "model_public_key_file", "predict_deadline_s")


def idle_settings(settings: Settings) -> Iterator[str]:
    """A sentence for each reason why settings that are not at their default have no effect."""
    for idle, names, cause in (
        (not settings.archive, _OF_ARCHIVE, "archive"),
        (not settings.incremental, ("cache_mb",), "incremental"),
        (settings.model == "none", _OF_MODELS, "model"),
    ):
        given = [name for name in names if getattr(settings, name) != _default(name)]
        if idle and given:
            yield f"{', '.join(_is(settings, each) for each in given)}, without effect: " + _is(
                settings, cause
            )


def _default(name: str) -> object:
    default: object = Settings.model_fields[name].default
    return default


def _is(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    said = f"is {value!r}" if value or value != _default(name) else "is not set"
    return f"{PREFIX}{name.upper()} {said}"
