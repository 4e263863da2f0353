"""A corpus -> a data set on disk, in memory that the corpus does not decide.

read      every click once; spread over buckets by the hash of its user (`training.spill`)
clean     foreign logs only, bucket by bucket (`training.cleaning`)
cut       where the parts begin: by time, counted in clicks (`training.quantiles`)
replay    each bucket alone, through the window and the encoder (`training.examples`)
write     shards as they fill up, and the manifest
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import file_digest
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np

from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.events import MAX_TS_MS
from clickpath.window import Verdict, Window
from training.cleaning import Cleaner, Rules
from training.corpus import Corpus
from training.dataset import Dataset
from training.examples import PARTS, Cuts, Example, Replay, Sampling
from training.labels import HEADS
from training.manifest import (
    MANIFEST_FILE,
    Clicks,
    Layout,
    Manifest,
    PartFiles,
    ShardFile,
    Time,
    code_digest,
    write_manifest,
)
from training.quantiles import Times
from training.shards import SHARD_EXAMPLES, Collected, Ints
from training.spill import BUCKET_CLICKS, TS_MS, USER, Spill, entries_of

#: Shares of the clicks, by time, after which the parts valid and test begin.
CUT_SHARES: Final = (0.7, 0.85)

#: A corpus of which the window finds more than this share late is not in order of arrival.
_MOST_LATE: Final = 0.01
_FEWEST_CLICKS: Final = 100
_BUCKETS: Final = ".buckets-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides a data set, besides its corpus.

    Attributes:
        encoder: The worker's encoder, with the worker's window.
        sampling: Which steps become examples.
        rules: How a foreign log is cleaned.
        cuts: Where the parts begin; None for `CUT_SHARES` of the clicks.
        bucket_clicks: Most clicks in memory; decides nothing else but the order of the examples.
        shard_examples: Most examples in a file.
    """

    encoder: Encoder = field(default_factory=lambda: Encoder(Window()))
    sampling: Sampling = field(default_factory=Sampling)
    rules: Rules = field(default_factory=Rules)
    cuts: Cuts | None = None
    bucket_clicks: int = BUCKET_CLICKS
    shard_examples: int = SHARD_EXAMPLES


def build(
    corpus: Corpus,
    folder: Path,
    recipe: Recipe | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """Makes the data set of a corpus in a folder; what was there of another one is replaced.

    Args:
        corpus: The clicks.
        folder: Made if it is missing; buckets lie in it meanwhile.
        recipe: How.
        say: Takes a line for a person after each stage.

    Raises:
        UsageError: The corpus cannot be used, or the folder not be written.
    """
    recipe = recipe or Recipe()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _forget(folder)
        with TemporaryDirectory(dir=folder, prefix=_BUCKETS) as buckets:
            spill = Spill(Path(buckets), recipe.bucket_clicks)
            manifest = _made(corpus, folder, recipe, spill, say)
    except OSError as error:
        raise UsageError(f"cannot make the data set in {folder}: {error}") from error
    write_manifest(manifest, folder)
    return Dataset.open(folder)


def _forget(folder: Path) -> None:
    """Removes what an earlier build has left, the manifest first: it speaks for the others."""
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    for shard in folder.glob("*.npz"):
        shard.unlink()
    for unfinished in folder.glob(f"{_BUCKETS}*"):
        rmtree(unfinished)


def rebuild(manifest: Manifest, corpus: Corpus, folder: Path) -> Dataset:
    """Makes the very data set of a manifest again.

    Args:
        manifest: Of the data set.
        corpus: Its clicks; the digests of its sources are compared.
        folder: Where the data set goes.

    Raises:
        UsageError: The corpus, the code or the result is another than the manifest says.
    """
    if manifest.sources != corpus.sources():
        raise UsageError("the sources are not those of the manifest")
    if manifest.code != code_digest():
        raise UsageError(f"the manifest was written by other code, {manifest.code}")
    time = manifest.time
    recipe = Recipe(
        encoder=Encoder(Window(**manifest.window)),
        sampling=Sampling(**manifest.sampling),
        rules=Rules(**(manifest.cleaning or {})),
        cuts=Cuts(time.valid_from_ms, time.test_from_ms, time.end_ms),
        bucket_clicks=manifest.layout.bucket_clicks,
        shard_examples=manifest.layout.shard_examples,
    )
    dataset = build(corpus, folder, recipe)
    if dataset.manifest != manifest:
        raise UsageError(f"the examples in {folder} are not those of the manifest")
    return dataset


def _made(
    corpus: Corpus, folder: Path, recipe: Recipe, spill: Spill, say: Callable[[str], None]
) -> Manifest:
    window = recipe.encoder.window
    say("reading the corpus")
    # Before the clicks are: whoever is erased meanwhile may be among them.
    erased = corpus.erased()
    refused = Counter[str]()
    for entry in corpus.entries(refused):
        spill.add(entry)
    spill.close()
    read = spill.clicks + refused.total()
    dropped = Counter({f"refused_{code}": refused[code] for code in sorted(refused)})
    cleaner = Cleaner(recipe.rules, window.session_gap_ms)
    if corpus.foreign and spill.clicks:
        say("cleaning it")
        cuts = cleaner.clean(spill, lambda: recipe.cuts or _cut(spill))
        dropped += cleaner.dropped
    else:
        cuts = recipe.cuts or _cut(spill)
    say("replaying it through the window and the encoder")
    replay = Replay(recipe.encoder, cuts, recipe.sampling)
    writers = [_Writer(folder, name, recipe.shard_examples) for name in PARTS]
    seen = _replayed(spill, replay, writers)
    verdicts = replay.verdicts
    kept = verdicts[Verdict.HEAD] + verdicts[Verdict.INSERTED]
    dropped += Counter(late=verdicts[Verdict.LATE], duplicate=verdicts[Verdict.DUPLICATE])
    dropped += Counter(beyond_end=read - kept - dropped.total())
    if not all(writer.files for writer in writers) and recipe.cuts is None:
        raise UsageError("the corpus is too short: a part of it has no examples")
    return Manifest(
        code=code_digest(),
        encoder=recipe.encoder.fingerprint,
        window=asdict(window),
        sampling=asdict(recipe.sampling),
        cleaning=asdict(recipe.rules) if corpus.foreign else None,
        layout=Layout(bucket_clicks=recipe.bucket_clicks, shard_examples=recipe.shard_examples),
        sources=corpus.sources(),
        erasures=None if erased is None else erased.digest,
        clicks=Clicks(
            read=read,
            kept=kept,
            users=seen.users,
            dropped=dict(sorted(dropped.items())),
            clipped=dict(sorted(cleaner.clipped.items())),
        ),
        time=Time(
            first_ms=seen.first_ms,
            last_ms=seen.last_ms,
            valid_from_ms=cuts.valid_ms,
            test_from_ms=cuts.test_ms,
            end_ms=cuts.end_ms,
        ),
        parts={writer.name: writer.part() for writer in writers},
    )


def _cut(spill: Spill) -> Cuts:
    """Where the parts begin, by `CUT_SHARES`."""

    def times_ms() -> Iterator[Ints]:
        return (rows[:, TS_MS] for rows in spill.buckets())

    times, newest_ms = Times(), 0
    for ts_ms in times_ms():
        times.add(ts_ms)
        newest_ms = max(newest_ms, int(ts_ms.max(initial=newest_ms)))
    if times.total < _FEWEST_CLICKS:
        raise UsageError(
            f"the corpus has {times.total} readable clicks, at least {_FEWEST_CLICKS} are needed"
        )
    first_ms, valid_ms, test_ms = (times.exactly(share, times_ms) for share in (0, *CUT_SHARES))
    if not first_ms < valid_ms < test_ms:
        raise UsageError("the corpus covers too little time to be cut by it")
    return Cuts(valid_ms, test_ms, newest_ms + 1)


class _Seen(NamedTuple):
    """What has been replayed: how many users, and the range of their clicks."""

    users: int
    first_ms: int
    last_ms: int


def _replayed(spill: Spill, replay: Replay, writers: list[_Writer]) -> _Seen:
    """Replays all buckets into the writers."""
    users, first_ms, last_ms = 0, MAX_TS_MS, 0
    for rows in spill.buckets():
        users += len(np.unique(rows[:, USER]))
        first_ms = min(first_ms, int(rows[:, TS_MS].min(initial=first_ms)))
        last_ms = max(last_ms, int(rows[:, TS_MS].max(initial=last_ms)))
        for example in replay.run(entries_of(rows)):
            writers[example.part].add(example)
    for writer in writers:
        writer.flush()
    late = replay.verdicts[Verdict.LATE]
    if late > _MOST_LATE * spill.clicks:
        raise UsageError(
            f"the corpus is not in order of time: {late} of {spill.clicks} clicks are older than "
            "the window of their user allows; sort it by time"
        )
    return _Seen(users, first_ms, last_ms)


class _Writer:
    """The shards of one part.

    Args:
        folder: Where they go.
        name: Of the part.
        most: Examples in a shard.
    """

    def __init__(self, folder: Path, name: str, most: int) -> None:
        self._folder = folder
        self._most = most
        self._collected = Collected()
        self._known = Counter({head.name: 0 for head in HEADS})
        self.name = name
        self.files: list[ShardFile] = []

    def add(self, example: Example) -> None:
        """Adds an example; writes a shard when it is full."""
        self._collected.add(example)
        if len(self._collected) == self._most:
            self.flush()

    def flush(self) -> None:
        """Writes what has been collected."""
        if not len(self._collected):
            return
        shard = self._collected.shard()
        self._collected = Collected()
        path = self._folder / f"{self.name}-{len(self.files):05d}.npz"
        shard.save(path)
        self._known.update(shard.known())
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        self.files.append(ShardFile(name=path.name, examples=len(shard), sha256=digest))

    def part(self) -> PartFiles:
        """What has been written."""
        return PartFiles(known=dict(self._known), shards=tuple(self.files))
