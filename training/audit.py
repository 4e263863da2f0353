"""The audit: does the trainer's replay see what the worker saw when it decided?

A decision record holds the path that it was made on. The clicks are replayed as for training, the
path is encoded after every click that became the newest step of its user and has a decision, and
this is compared with the encoding of the recorded path, bit for bit. Clicks and decisions are
spread over buckets by user first, so that memory does not grow with their number.
"""

from __future__ import annotations

import json
from array import array
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import fsspec
import pyarrow.parquet as pq

from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.events import MAX_TS_MS
from clickpath.ids import event_hash
from clickpath.steps import Step
from clickpath.wire.state import load_path
from training.corpus import Corpus, files_at, readable
from training.examples import Cuts, Entry, Replay, Sampling, user_hash
from training.shards import Ints
from training.spill import ACTION, EVENT, ITEM, USER, Spill, entries_of

#: Every click belongs to the last part, of which any step can be an example.
_ALL: Final = Cuts(0, 0, MAX_TS_MS + 1)
_EVERY: Final = Sampling(unlabelled=True)

#: In a bucket a decision is a row with an action that no click has, behind the clicks of its user;
#: the digest of what was encoded takes the place of the item.
_DECIDED: Final = 0
_BEHIND: Final = (1 << 63) - 1

_COLUMNS: Final = ("user_id", "event_id", "encoder", "state")


class Recorded(NamedTuple):
    """What the audit needs of a decision record."""

    user_id: str
    event_id: str
    encoder: str
    state: bytes


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it.

    Attributes:
        clicks: Clicks replayed.
        decisions: Different decisions compared; a repeat of the same counts once.
        different: Those for which the replay encodes something else.
        missing: Those whose click the replay does not meet as a newest step.
        refused: Records of the corpus that are no clicks, by reason.
    """

    clicks: int
    decisions: int
    different: int
    missing: int
    refused: dict[str, int]

    @property
    def mismatches(self) -> int:
        """Decisions that the replay does not confirm."""
        return self.different + self.missing


def compared(
    corpus: Corpus, decisions: Iterator[Recorded], encoder: Encoder, folder: Path | None = None
) -> Audit:
    """Compares every decision with the replay of the clicks.

    Args:
        corpus: The clicks, as the worker got them.
        decisions: What it decided.
        encoder: The worker's encoder, with the worker's window.
        folder: Where the buckets lie meanwhile; None for the system's own place.

    Raises:
        UsageError: A decision was made with another encoder, or there is none.
    """
    refused = Counter[str]()
    different = missing = count = 0
    with TemporaryDirectory(dir=folder, prefix="audit-") as buckets:
        spill = Spill(Path(buckets))
        for recorded in decisions:
            spill.add(_row_of(recorded, encoder))
        if not spill.clicks:
            raise UsageError("there are no decisions to compare with")
        records = spill.clicks
        for entry in corpus.entries(refused):
            spill.add(entry)
        spill.close()
        for rows in spill.buckets():
            decided = rows[:, ACTION] == _DECIDED
            found = _confirmed(rows[~decided], _digests(rows[decided]), encoder)
            count += found["same"] + found["different"] + found["missing"]
            different += found["different"]
            missing += found["missing"]
    return Audit(spill.clicks - records, count, different, missing, dict(sorted(refused.items())))


def _confirmed(
    clicks: Ints, expected: dict[tuple[int, int], set[int]], encoder: Encoder
) -> Counter[str]:
    replay = Replay(
        encoder, _ALL, _EVERY, wanted=lambda entry: (entry.user, entry.step.event) in expected
    )
    seen = defaultdict[tuple[int, int], set[int]](set)
    for example in replay.run(entries_of(clicks)):
        seen[example.user, example.last.event].add(_digest(example.path))
    # A set of them: an id that comes again after the window has forgotten it is another event.
    found = Counter(
        "same" if expected[of] <= digests else "different" for of, digests in seen.items()
    )
    found["missing"] = len(expected) - len(seen)
    return found


def _digests(decided: Ints) -> dict[tuple[int, int], set[int]]:
    """What was encoded, by user and event."""
    digests = defaultdict[tuple[int, int], set[int]](set)
    for user, event, digest in decided[:, (USER, EVENT, ITEM)].tolist():
        digests[user, event].add(digest)
    return digests


def _row_of(recorded: Recorded, encoder: Encoder) -> Entry:
    if recorded.encoder != encoder.fingerprint:
        raise UsageError(
            f"the decision because of event {recorded.event_id} was made with encoder "
            f"{recorded.encoder}, the one in use is {encoder.fingerprint}"
        )
    path = load_path(recorded.state, encoder.window)
    digest = _digest(encoder.encode(path))
    event = event_hash(recorded.event_id)
    step = Step(path.steps[-1].ts_ms, event, _DECIDED, digest, 0, 0, 0, ())
    return Entry(user_hash(recorded.user_id), _BEHIND, step)


def _digest(encoded: array[int]) -> int:
    """63 bits that stand for an encoded path."""
    raw = blake2b(encoded.tobytes(), digest_size=8).digest()
    return int.from_bytes(raw, "big") >> 1


def decisions_of_lines(path: Path) -> Iterator[Recorded]:
    """The decisions of a file with a record a line, as `clickpath replay` writes it.

    Raises:
        UsageError: A line is no decision record, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    user_id, event_id, fingerprint, state = (record[name] for name in _COLUMNS)
                    raw = b64decode(state, validate=True)
                except (ValueError, KeyError, TypeError, Base64Error) as error:
                    raise UsageError(f"{path}:{number}: no decision record: {error}") from error
                yield Recorded(user_id, event_id, fingerprint, raw)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def decisions_of_archive(address: str) -> Iterator[Recorded]:
    """The decisions of the worker's archive.

    Raises:
        UsageError: There is none, or a file of it cannot be read.
    """
    for name in files_at(f"{address.rstrip('/')}/decisions", ".parquet"):
        with fsspec.open(name, "rb") as file, readable(name):
            for rows in pq.ParquetFile(file).iter_batches(1024, columns=list(_COLUMNS)):
                columns = (rows.column(column).to_pylist() for column in _COLUMNS)
                yield from map(Recorded, *columns)
