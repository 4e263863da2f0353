"""What is said of a record of ours that is refused: of a newer release, or none at all."""

from __future__ import annotations

from pydantic import ValidationError

from clickpath.errors import NewerVersion, StateError


def misfit(what: str, known: int, error: ValidationError) -> StateError:
    """The error to raise for a record that is refused.

    Args:
        what: What the record should be, such as "record of the active model".
        known: The newest version of it that is read here, in its field `v`.
        error: What is wrong with it.
    """
    faults = error.errors()
    for each in faults:
        version = each["input"]
        if each["loc"] == ("v",) and type(version) is int and version > known:
            return NewerVersion(
                f"a {what} has version {version}; this program reads up to {known}: a newer "
                "release wrote it, and has to go on"
            )
    place = ".".join(map(str, faults[0]["loc"])) or "the whole of it"
    return StateError(f"this is no {what}: {place}: {faults[0]['msg']}")
