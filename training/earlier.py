"""Examples that were made earlier: of a run that goes on, or of the champion before a refresh.

A run goes on only when what its examples were made of is there as it was, though an archive may
have grown, and when nobody has been erased since: its weights have learned from all of them. A
refresh passes over examples of users who were erased, or are no longer in the archive.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clickpath.errors import UsageError
from training.corpus import Corpus
from training.dataset import Dataset, Part
from training.examples import PARTS
from training.manifest import MANIFEST_FILE


def reopen(corpus: Corpus, folder: Path) -> Dataset:
    """Opens the data set of a corpus again.

    Args:
        corpus: Its clicks, and those that have come since.
        folder: Where the data set is.

    Raises:
        UsageError: There is no data set, or one of something else.
    """
    dataset = Dataset.open(folder)
    manifest, erased = dataset.manifest, corpus.erased()
    again = "train again without --resume"
    if (manifest.erasures is None) != (erased is None):
        kinds = ("an archive", "no archive") if erased is None else ("no archive", "an archive")
        raise UsageError(f"the examples in {folder} are of {kinds[0]}, the corpus is {kinds[1]}")
    if erased is not None and erased.digest != manifest.erasures:
        raise UsageError(
            f"users were erased from the archive since the examples in {folder} were made: {again}"
        )
    there = set(corpus.sources())
    for source in manifest.sources:
        if source not in there:
            raise UsageError(
                f"the examples in {folder} were made of {source.name!r}, which is not in the "
                f"corpus as it was: {again}"
            )
    return dataset


def old_parts(folder: Path, corpus: Corpus) -> dict[str, Part]:
    """The champion's examples by part, without users who are not in the archive, or were erased.

    Args:
        folder: Where they are, in the directory of the run.
        corpus: Of the refresh; an archive tells who was erased.

    Raises:
        UsageError: There are none, or too few are left, or nobody can tell who was erased.
    """
    run = folder.parent
    if not (folder / MANIFEST_FILE).is_file():
        raise UsageError(
            f"{run} has no examples, of which a LoRA refresh sees half; --method full needs none"
        )
    dataset, erased = Dataset.open(folder), corpus.erased()
    parts = {name: dataset.part(name) for name in PARTS}
    if dataset.manifest.erasures is None:
        return parts
    if erased is None:
        raise UsageError(
            f"the examples of {run} are of an archive, which alone tells who was erased since: "
            "give it as the corpus, or take --method full, which needs no old examples"
        )
    gone = erased.gone(np.unique(np.concatenate([part.users() for part in parts.values()])))
    kept = {name: part.without(gone) for name, part in parts.items()}
    if not all(map(len, kept.values())):
        raise UsageError(
            f"too few users of {run} are in the archive, and were not erased, to learn from its "
            "old examples; --method full needs none"
        )
    return kept
