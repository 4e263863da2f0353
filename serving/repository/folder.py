"""The versions of a model in a Triton repository, by the digests that decisions record.

Rules

1.  A version's number never changes, so the first number with a digest stands for it.
2.  Until something is promoted the version with the lowest number decides: a new one in the
    repository is nobody's champion before it was tried.
3.  What Triton loads stands in the repository's configuration (`serving.repository.config`).
    Whoever promotes a version writes it there first; servers read it when they are told to load.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from clickpath.errors import ModelMismatch, UsageError
from serving.card import Card, read_card
from serving.manifest import check_manifest, read_public_key
from serving.repository.versions import Version, keep_loaded, version_directories

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

logger = logging.getLogger(__name__)


class TritonFolder:
    """One model of a Triton repository; see `serving.versions.Versions`.

    Args:
        repository: The repository's directory, which Triton and this program share.
        name: Of the model.
        public_key_file: Of the key that must have signed each version; None asks for none.

    Raises:
        ConfigError: The key cannot be read.
    """

    def __init__(self, repository: Path, name: str, public_key_file: Path | None = None) -> None:
        self.folder = repository / name
        self.name = name
        self._repository = repository
        self._key: Ed25519PublicKey | None = None
        if public_key_file is not None:
            self._key = read_public_key(public_key_file)

    def versions(self) -> list[str]:
        """The versions, oldest first.

        Raises:
            UsageError: There is no such folder.
        """
        if not self.folder.is_dir():
            raise UsageError(
                f"{self._repository} is no Triton repository with a model {self.name}; "
                "`clickpath triton repository` adds one"
            )
        return list(self._found())

    def has(self, version: str) -> bool:
        """Whether there is such a version."""
        return version in self._found()

    def directory(self, version: str) -> Path:
        """Where a version lies.

        Raises:
            ModelMismatch: There is none.
        """
        found = self._found()
        if version not in found:
            raise ModelMismatch(f"there is no version {version} in the repository {self.folder}")
        return found[version]

    def checked(self, version: str) -> tuple[Path, Card]:
        """The directory of a version, whose name is its number, and its card.

        Raises:
            ModelMismatch: There is none, or it is not what its manifest says.
        """
        directory = self.directory(version)
        check_manifest(directory, self._key)
        # Read again: what found the directory was not checked yet.
        card = read_card(directory)
        if card.digest != version:
            raise ModelMismatch(f"{directory} holds the model {card.digest}")
        return directory, card

    def first(self, number: int = 0) -> str:
        """The version that decides until something is promoted.

        Args:
            number: Its number; 0 takes the lowest one there is.

        Raises:
            UsageError: There is none.
        """
        for version, directory in self._found().items():
            if number in (0, int(directory.name)):
                return version
        which = f"no version {number}" if number else "no version"
        raise UsageError(
            f"there is {which} of a model {self.name} in {self._repository}; "
            "`clickpath triton repository` adds one"
        )

    def keep(self, versions: Collection[str]) -> None:
        """Has Triton serve just these versions from the next load on.

        Raises:
            ModelMismatch: One is not there, or the configuration was not written by Clickpath.
            UsageError: The configuration cannot be written.
        """
        kept = []
        for version in versions:
            directory, card = self.checked(version)
            kept.append(Version(int(directory.name), directory, card))
        keep_loaded(self._repository, self.name, kept)

    def _found(self) -> dict[str, Path]:
        """The directories by digest, in the order of their numbers."""
        found: dict[str, Path] = {}
        for directory in sorted(version_directories(self.folder), key=lambda each: int(each.name)):
            try:
                found.setdefault(read_card(directory).digest, directory)
            except ModelMismatch as error:
                # One that is broken must not hide the others.
                logger.warning("a version is passed over: %s", error)
        return found
