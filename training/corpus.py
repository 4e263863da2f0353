"""Where the clicks of a training run come from."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final, Protocol

from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_TS_MS, Click
from clickpath.logs import read_log
from clickpath.simulation import simulate
from clickpath.wire import parse
from training.examples import Cuts

#: Shares of the clicks, by time, after which the parts valid and test begin.
_CUT_SHARES: Final = (0.7, 0.85)

#: A corpus of which more than this share is older than what came before it is not in order.
_DISORDER: Final = 0.01
_PATIENCE_MS: Final = 24 * 3_600_000


class Corpus(Protocol):
    """Clicks that can be read more than once, the same each time."""

    def clicks(self) -> Iterator[Click]:
        """All clicks, in order of arrival."""
        ...

    def description(self) -> dict[str, str | int]:
        """What it is, for a card."""
        ...


@dataclass(frozen=True, slots=True)
class Simulated:
    """Clicks of the simulated shop."""

    events: int
    users: int
    seed: int

    def clicks(self) -> Iterator[Click]:
        """All clicks, in order of time."""
        return simulate(self.events, self.users, self.seed)

    def description(self) -> dict[str, str | int]:
        """The arguments of the simulator."""
        return {
            "source": "simulated shop",
            "events": self.events,
            "users": self.users,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log of clicks in one of the formats of `clickpath.logs`; broken lines are left out."""

    path: Path
    format_name: str

    def clicks(self) -> Iterator[Click]:
        """All clicks that can be read, in the order of the file."""
        for line in read_log(self.path, self.format_name):
            try:
                yield parse(line.value, line.headers, MAX_TS_MS)
            except BadEvent:
                continue

    def description(self) -> dict[str, str | int]:
        """Name and digest of the log, its lines, and the reasons why some were left out."""
        refused = Counter[str]()
        lines = 0
        for line in read_log(self.path, self.format_name):
            lines += 1
            try:
                parse(line.value, line.headers, MAX_TS_MS)
            except BadEvent as error:
                refused[f"refused_{error.code}"] += 1
        return {
            "source": self.path.name,
            "format": self.format_name,
            "sha256": _digest(self.path),
            "lines": lines,
            **dict(sorted(refused.items())),
        }


def _digest(path: Path) -> str:
    """SHA-256 of a file, or over the names and digests of the files in a folder."""
    if path.is_dir():
        lines = (f"{each.name} {_digest(each)}\n" for each in sorted(path.iterdir()))
        return sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def cuts_of(corpus: Corpus) -> Cuts:
    """Cuts a corpus by time into 70 % train, 15 % valid and 15 % test, counted in clicks.

    Raises:
        UsageError: The corpus is too short, covers no time, or is not in order of time.
    """
    times_ms = array("q")
    newest_ms = disorder = 0
    for click in corpus.clicks():
        times_ms.append(click.ts_ms)
        disorder += click.ts_ms < newest_ms - _PATIENCE_MS
        newest_ms = max(newest_ms, click.ts_ms)
    if disorder > _DISORDER * len(times_ms):
        raise UsageError(
            f"the corpus is not in order of time: {disorder} of {len(times_ms)} clicks come more "
            "than a day after a newer one; sort it by time"
        )
    ordered = sorted(times_ms)
    if len(ordered) < 100:
        raise UsageError(f"the corpus has {len(ordered)} readable clicks, at least 100 are needed")
    valid_ms, test_ms = (ordered[int(share * len(ordered))] for share in _CUT_SHARES)
    if not ordered[0] < valid_ms < test_ms:
        raise UsageError("the corpus covers too little time to be cut by it")
    return Cuts(valid_ms, test_ms, ordered[-1] + 1)
