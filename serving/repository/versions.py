"""Versions of a model in a Triton repository: written aside, moved in place, never changed.

A new version's directory appears complete, by one rename; after it the configuration is replaced,
by another one. A reader between the two sees a version whose fingerprints it does not know yet.
Writers take turns (`serving.repository.turns`): the configuration is made of what is there.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from clickpath.errors import ModelMismatch, UsageError
from serving.card import MODEL_FILE, Card, read_card, read_model, step_files
from serving.graph import Signature, signature_of
from serving.manifest import check_manifest, write_manifest
from serving.outputs import output_names
from serving.repository.config import CONFIG_FILE, ServingPlan, config_text, keeping, kept_in
from serving.repository.fingerprints import Vouched, write_signature
from serving.repository.turns import turn
from serving.versions import VERSION_FILES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

DEFAULT_NAME: Final = "clickpath"

#: What the Python backend loads; it makes the version one for that backend.
_PYTHON_FILE: Final = "model.py"

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Version(NamedTuple):
    """A version of a model in a repository."""

    number: int
    directory: Path
    card: Card


def versions(
    repository: Path, name: str = DEFAULT_NAME, public_key: Ed25519PublicKey | None = None
) -> tuple[Version, ...]:
    """The versions of a model, ascending, each checked against its manifest.

    Args:
        repository: Its directory.
        name: Of the model.
        public_key: Must have signed each manifest; None asks for no signature.

    Raises:
        ModelMismatch: A version is not what its manifest says, or has no card.
    """
    found = []
    for directory in version_directories(repository / name):
        check_manifest(directory, public_key)
        found.append(Version(int(directory.name), directory, read_card(directory)))
    return tuple(sorted(found))


def add_version(
    repository: Path,
    model: Path,
    plan: ServingPlan,
    *,
    name: str = DEFAULT_NAME,
    private_key: Ed25519PrivateKey | None = None,
) -> Version:
    """Adds a model to a repository as its newest version.

    Args:
        repository: Its directory; made when it is not there.
        model: A model directory: graph, card and what lies beside them.
        plan: How all versions of the model are served from now on.
        name: Of the model in the repository.
        private_key: Signs the version's manifest.

    Raises:
        ModelMismatch: The model fits neither its card nor the versions that are there.
        UsageError: The repository cannot be written to, or the name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a model: letters, digits, . _ and -")
    card, signature = _read(model)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with turn(repository):
            earlier = versions(repository, name)
            _check_fits(model, signature, earlier, plan)
            number, directory = _placed(repository, model, card, plan, name, private_key)
            every = [*earlier, Version(number, directory, card)]
            known = {each.number: Vouched.of(each.directory, each.card) for each in every}
            config = repository / name / CONFIG_FILE
            kept = kept_in(config.read_text(encoding="utf-8")) if config.exists() else None
            text = config_text(name, signature, known, plan, steps=card.steps, kept=kept)
            _write_config(repository, name, text)
    except OSError as error:
        raise UsageError(f"cannot write to {repository}: {error.strerror}") from error
    return Version(number, directory, card)


def keep_loaded(repository: Path, name: str, kept: Collection[Version]) -> None:
    """Has Triton serve just these versions from the next load on.

    Args:
        repository: Its directory.
        name: Of the model.
        kept: The versions.

    Raises:
        ModelMismatch: The configuration was not written by Clickpath.
        UsageError: It cannot be read or written.
    """
    config = repository / name / CONFIG_FILE
    known = {each.number: Vouched.of(each.directory, each.card) for each in kept}
    try:
        with turn(repository):
            before = config.read_text(encoding="utf-8")
            text = keeping(before, known)
            if text != before:
                _write_config(repository, name, text)
    except OSError as error:
        raise UsageError(
            f"cannot write to {config}, which says what Triton loads: {error.strerror}"
        ) from error
    except ModelMismatch as error:
        raise ModelMismatch(f"{config}: {error}") from error


def _check_fits(
    model: Path, signature: Signature, earlier: Sequence[Version], plan: ServingPlan
) -> None:
    """Checks that a model can be served beside the versions that are there."""
    for version in earlier[-1:]:
        _, before = _read(version.directory)
        if before != signature:
            raise ModelMismatch(
                f"the model in {model} gives {_said(signature)}, but {version.directory} gives "
                f"{_said(before)}: give it another name, or a repository of its own"
            )
        if (version.directory / _PYTHON_FILE).exists() != (plan.backend == "python"):
            raise ModelMismatch(
                f"{version.directory} is of another backend than {plan.backend}: give this model "
                "another name, or a repository of its own"
            )


def _write_config(repository: Path, name: str, text: str) -> None:
    with _aside(repository) as folder:
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        os.replace(folder / CONFIG_FILE, repository / name / CONFIG_FILE)


def _read(model: Path) -> tuple[Card, Signature]:
    card, graph = read_card(model), read_model(model)
    found = sha256(graph).hexdigest()
    if card.sha256 != found:
        raise ModelMismatch(
            f"the card in {model} is of a model with digest {card.digest}, "
            f"but {MODEL_FILE} has {found[:16]}"
        )
    signature = signature_of(graph, model)
    given = {tensor.name for tensor in signature.outputs}
    for output in output_names(card.heads):
        if output not in given:
            raise ModelMismatch(
                f"the model in {model} has no output {output}, but its card names the head"
            )
    return card, signature


def _placed(
    repository: Path,
    model: Path,
    card: Card,
    plan: ServingPlan,
    name: str,
    private_key: Ed25519PrivateKey | None,
) -> tuple[int, Path]:
    """Writes a version aside and moves it to the next number."""
    home = repository / name
    home.mkdir(parents=True, exist_ok=True)
    with _aside(repository) as folder:
        made = folder / "version"
        made.mkdir()
        for file in (*VERSION_FILES, *step_files(model)):
            if (model / file).exists():
                shutil.copyfile(model / file, made / file)
        if plan.backend == "python":
            shutil.copyfile(Path(__file__).with_name("python_model.py"), made / _PYTHON_FILE)
        if private_key is not None:
            write_signature(card, made, private_key)
        write_manifest(made, private_key)
        number = 1 + max((int(each.name) for each in version_directories(home)), default=0)
        made.rename(home / str(number))
        return number, home / str(number)


@contextmanager
def _aside(repository: Path) -> Iterator[Path]:
    """A folder beside the models, on their file system, that no reader takes for a model."""
    folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=repository))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def version_directories(home: Path) -> list[Path]:
    """The directories of a model's versions, in no order."""
    return [each for each in home.glob("[0-9]*") if each.is_dir() and each.name.isdecimal()]


def _said(signature: Signature) -> str:
    return ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in signature.outputs)
