"""The model repository: a folder with one directory a version, and how a version is loaded.

Rules

1.  A version is named by its model's digest, which is what decisions record: whoever has a
    decision finds the model that scored it.
2.  It is written aside and moved in place, so that a directory with a version's name is complete.
    It is never changed afterwards.
3.  Its manifest is checked before anything in it is read, and the manifest's signature before
    that where a key is given.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Final, Protocol

from clickpath.encoding import Encoder
from clickpath.errors import ModelMismatch, UsageError
from serving.card import CARD_FILE, HEADS_FILE, MODEL_FILE, Card, read_card, step_files
from serving.manifest import check_manifest, read_private_key, read_public_key, write_manifest
from serving.predictor import Predictor
from serving.promotion import PROMOTION_FILE
from serving.reference import ITEMS_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: What of a run's directory belongs to a version: what serving reads, and what a refresh goes on
#: from.
VERSION_FILES: Final = (
    MODEL_FILE,
    HEADS_FILE,
    CARD_FILE,
    "calibration.json",
    ITEMS_FILE,
    "weights.safetensors",
    "config.json",
    PROMOTION_FILE,
)

_VERSION: Final = re.compile(r"[0-9a-f]{16}")


class Versions(Protocol):
    """The versions that workers may be told to use, by their digests."""

    folder: Path

    def versions(self) -> list[str]:
        """The versions, oldest first.

        Raises:
            UsageError: The folder cannot be read.
        """
        ...

    def has(self, version: str) -> bool:
        """Whether there is such a version."""
        ...

    def directory(self, version: str) -> Path:
        """Where a version lies."""
        ...

    def checked(self, version: str) -> tuple[Path, Card]:
        """The directory of a version, and its card.

        Raises:
            ModelMismatch: There is none, or it is not what its manifest says.
        """
        ...

    def keep(self, versions: Collection[str]) -> None:
        """Has whoever serves the versions load these, and no others, from the next load on.

        Raises:
            ModelMismatch: One of them is not there.
            UsageError: What says so cannot be written.
        """
        ...


class VersionFolder:
    """A folder of versions for workers that run them themselves; see `Versions`.

    Args:
        folder: It; need not be there before the first version.
        public_key_file: Of the key that must have signed each version; None asks for none.

    Raises:
        ConfigError: The key cannot be read.
    """

    def __init__(self, folder: Path, public_key_file: Path | None = None) -> None:
        self.folder = folder
        self._key: Ed25519PublicKey | None = None
        if public_key_file is not None:
            self._key = read_public_key(public_key_file)

    def versions(self) -> list[str]:
        """The versions, oldest first.

        Raises:
            UsageError: The folder cannot be read.
        """
        try:
            there = [each for each in self.folder.iterdir() if _VERSION.fullmatch(each.name)]
            there.sort(key=lambda each: (each.stat().st_mtime_ns, each.name))
        except OSError as error:
            raise UsageError(
                f"cannot read the model repository {self.folder}: {error.strerror}"
            ) from error
        return [each.name for each in there]

    def has(self, version: str) -> bool:
        """Whether there is such a version."""
        return bool(_VERSION.fullmatch(version)) and (self.folder / version).is_dir()

    def directory(self, version: str) -> Path:
        """Where a version lies."""
        return self.folder / version

    def keep(self, versions: Collection[str]) -> None:
        """Nothing: a worker loads what it needs, and no one else has to be told."""

    def checked(self, version: str) -> tuple[Path, Card]:
        """The directory of a version, and its card.

        Raises:
            ModelMismatch: There is none, or it is not what its manifest and its name say.
        """
        directory = self.folder / version
        if not self.has(version):
            raise ModelMismatch(f"there is no version {version} in the repository {self.folder}")
        check_manifest(directory, self._key)
        card = read_card(directory)
        if card.digest != version:
            raise ModelMismatch(f"{directory} holds the model {card.digest}")
        return directory, card

    def put(self, directory: Path, private_key_file: Path | None = None) -> str:
        """Copies the model in a directory into the repository, and returns its version.

        A version that is there already stays as it is.

        Args:
            directory: Of a model, as `clickpath train` leaves it.
            private_key_file: Signs the version.

        Raises:
            ModelMismatch: There is no model in the directory.
            ConfigError: The key cannot be read.
            UsageError: The repository cannot be written.
        """
        version = read_card(directory).digest
        key = None if private_key_file is None else read_private_key(private_key_file)
        if self.has(version):
            return version
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            aside = Path(mkdtemp(prefix=f".{version}-", dir=self.folder))
            try:
                for name in (*VERSION_FILES, *step_files(directory)):
                    if (directory / name).is_file():
                        shutil.copyfile(directory / name, aside / name)
                write_manifest(aside, key)
                aside.chmod(0o755)
                aside.rename(self.folder / version)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        except OSError as error:
            raise UsageError(
                f"cannot write to the model repository {self.folder}: {error.strerror}"
            ) from error
        return version


class ModelSource(Protocol):
    """Where a version of a model comes from."""

    async def load(self, version: str) -> Predictor:
        """A version, checked, warm and ready to be asked.

        Raises:
            ModelMismatch: It is not there, or not what it should be.
            PredictorUnavailable: It cannot be loaded at present.
        """
        ...

    async def close(self) -> None:
        """Frees what its versions share, once they are closed."""
        ...


class EmbeddedSource:
    """Versions of a repository, run in this process.

    Args:
        repository: The versions.
        encoder: The encoder whose paths they will be given.
        given: Directories of models that need not be in the repository, by version.
        cache_bytes: Of each version at work; see `serving.embedded.EmbeddedPredictor`.
    """

    def __init__(
        self,
        repository: Versions,
        encoder: Encoder,
        given: Mapping[str, Path] | None = None,
        *,
        cache_bytes: int | None = None,
    ) -> None:
        self._repository = repository
        self._encoder = encoder
        self._given = given or {}
        self._cache_bytes = cache_bytes

    async def load(self, version: str) -> Predictor:
        """See `ModelSource`; in a thread, because a graph takes a while to be built and run."""
        return await asyncio.to_thread(self._load, version)

    async def close(self) -> None:
        """Nothing: each version has its own thread."""

    def _load(self, version: str) -> Predictor:
        from serving.embedded import EmbeddedPredictor

        if version in self._given and not self._repository.has(version):
            directory = self._given[version]
        else:
            directory, _ = self._repository.checked(version)
        predictor = EmbeddedPredictor(directory, self._encoder, cache_bytes=self._cache_bytes)
        if predictor.digest != version:
            raise ModelMismatch(f"{directory} holds the model {predictor.digest}, not {version}")
        return predictor
