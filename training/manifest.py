"""The manifest of a data set: what its examples are made of, and all that decides them.

Two data sets with equal manifests have equal bytes: the digests of the shards are in it. Whoever
has the sources can make the very examples again (`training.build.rebuild`).
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import clickpath
from clickpath.errors import UsageError

MANIFEST_FILE: Final = "manifest.json"

#: The modules of the trainer that decide what an example is; the whole core does too.
_MODULES: Final = (
    "build",
    "cleaning",
    "corpus",
    "erased",
    "examples",
    "labels",
    "quantiles",
    "shards",
    "spill",
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Source(_Record):
    """A file that clicks came from; without a digest where there is no file."""

    name: str
    bytes: int
    sha256: str


class Clicks(_Record):
    """What became of the clicks.

    Attributes:
        read: Records of the sources, broken ones included.
        kept: Clicks that became steps of a path.
        users: Users with such a click.
        dropped: The others, by reason: `refused_` and the reason code for a broken record, the
            reasons of `training.cleaning`, `duplicate` and `late` for what the window refused, and
            `beyond_end` for what is newer than the end of the last part.
        clipped: Prices and dwells that were clipped.
    """

    read: int
    kept: int
    users: int
    dropped: dict[str, int]
    clipped: dict[str, int]


class Time(_Record):
    """The range of the clicks, and where the parts begin and end, in epoch milliseconds."""

    first_ms: int
    last_ms: int
    valid_from_ms: int
    test_from_ms: int
    end_ms: int


class Layout(_Record):
    """What decides the order of the examples and where one shard ends; see `build.Recipe`."""

    bucket_clicks: int
    shard_examples: int


class ShardFile(_Record):
    """A file of examples."""

    name: str
    examples: int
    sha256: str


class PartFiles(_Record):
    """The examples of one part, and how many labels of each head are known."""

    known: dict[str, int]
    shards: tuple[ShardFile, ...]


class Manifest(_Record):
    """What stands in `manifest.json`.

    Attributes:
        format: Of the shards and of this file; 1 did not tell who had been erased.
        version: Of Clickpath.
        code: Digest of the code that decides what an example is.
        encoder: Fingerprint of the encoder.
        window: The bounds of a path.
        sampling: Which steps become examples, and the seed of that.
        cleaning: The rules, or null where nothing is cleaned.
        layout: How the examples lie in their files.
        sources: What the clicks are made of.
        erasures: Digest of who had been erased from the archive that they are of; null for others.
        clicks: What became of them.
        time: Their range, and the cuts.
        parts: The examples.
    """

    format: Literal[2] = 2
    version: str = clickpath.__version__
    code: str
    encoder: str
    window: dict[str, int]
    sampling: dict[str, Any]
    cleaning: dict[str, Any] | None
    layout: Layout
    sources: tuple[Source, ...]
    erasures: str | None
    clicks: Clicks
    time: Time
    parts: dict[str, PartFiles]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the data set in a folder.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"there is no data set at {folder}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole of it"
        raise UsageError(f"{path} is no manifest: {place}: {first['msg']}") from error


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes it; equal manifests have equal bytes."""
    text = manifest.model_dump_json(indent=2)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def code_digest() -> str:
    """16 hexadecimal digits of the sources that decide what an example is."""
    core = Path(clickpath.__file__).parent
    here = Path(__file__).parent
    files = [*sorted(core.rglob("*.py")), *(here / f"{name}.py" for name in _MODULES)]
    digest = sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
