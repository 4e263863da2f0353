"""Values that know where they stand, and the reading of them with every mistake noted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NamedTuple

from clickpath.eligibility import Band

_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_MAX_DURATION_MS: Final = 3650 * _UNITS_MS["d"]


class Mistake(NamedTuple):
    """What is wrong in a policy file.

    Attributes:
        line: From 1.
        place: Dotted path of the field; empty for the whole file.
        message: What is wrong, to be read after the place.
    """

    line: int
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.line}: {self.place or 'the file'} {self.message}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A value and the line it stands on; in a mapping that is the line of its key."""

    line: int
    value: Value


Value = str | int | float | bool | None | tuple[Placed, ...] | dict[str, Placed]

#: Reads one number of a band: (value, place) -> number.
ReadNumber = Callable[[Placed, str], float]


class PlacedReader:
    """Reads values; notes a mistake and returns something harmless of the right type."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes

    def band(self, placed: Placed, place: str, read: ReadNumber) -> Band:
        """`{min: ..., max: ...}`, one of them or both."""
        fields = self.fields(placed, place, ("min", "max"))
        ends = {key: read(item, f"{place}.{key}") for key, item in fields.items()}
        least, most = ends.get("min"), ends.get("max")
        if isinstance(placed.value, dict) and not placed.value:
            self.note(placed, place, "needs min or max")
        if least is not None and most is not None and least > most:
            self.note(placed, place, "has a min above its max; nothing fits")
        return Band(least, most)

    # -- scalars

    def integer(self, placed: Placed, place: str, least: int, most: int) -> int:
        """A whole number; both ends are inclusive."""
        value = placed.value
        if isinstance(value, bool) or not isinstance(value, int):
            self.note(placed, place, f"is {said(placed)}, must be a whole number")
            return least
        self._check_range(placed, place, value, least, most)
        return value

    def number(self, placed: Placed, place: str, least: float, most: float) -> float:
        """Any finite number; both ends are inclusive."""
        value = placed.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.note(placed, place, f"is {said(placed)}, must be a number")
            return least
        self._check_range(placed, place, value, least, most)
        return float(value)

    def _check_range(
        self, placed: Placed, place: str, value: float, least: float, most: float
    ) -> None:
        if not least <= value <= most:
            bounds = f"must be {least}" if least == most else f"not between {least} and {most}"
            self.note(placed, place, f"is {value}, {bounds}")

    def duration(self, placed: Placed, place: str, least_ms: int = 0) -> int:
        """`90s`, `30m`, `2h`, `7d`, `4w` in milliseconds."""
        found = _DURATION.fullmatch(placed.value) if isinstance(placed.value, str) else None
        if found is None:
            self.note(placed, place, f"is {said(placed)}, must be a duration such as 90s, 30m, 7d")
            return 1
        duration_ms = int(found[1]) * _UNITS_MS[found[2]]
        if not least_ms <= duration_ms <= _MAX_DURATION_MS:
            least = "more than nothing" if least_ms else "at least 0s"
            self.note(placed, place, f"is {found[0]}, must be {least} and at most 3650d")
        return duration_ms

    def text(self, fields: dict[str, Placed], key: str, prefix: str) -> str:
        """The text of a field; empty when the field is absent."""
        placed = fields.get(key)
        if placed is None:
            return ""
        if not isinstance(placed.value, str):
            advice = "; put it in quotes" if isinstance(placed.value, int | float) else ""
            self.note(placed, f"{prefix}{key}", f"is {said(placed)}, must be a text{advice}")
            return ""
        if len(placed.value) > 256:
            self.note(placed, f"{prefix}{key}", "is longer than 256 characters")
        return placed.value

    def one_of(
        self, fields: dict[str, Placed], key: str, place: str, options: tuple[str, ...]
    ) -> str:
        """The option that a field names; the first one when the field is absent."""
        placed = fields.get(key)
        if placed is None:
            return options[0]
        if placed.value not in options:
            names = " or ".join(options)
            self.note(placed, f"{place}.{key}", f"is {said(placed)}, must be {names}")
            return options[0]
        return str(placed.value)

    # -- collections

    def fields(
        self, placed: Placed, place: str, known: Iterable[str], required: tuple[str, ...] = ()
    ) -> dict[str, Placed]:
        """The known fields of a mapping; every other key is a mistake, so is a missing one."""
        known = tuple(known)
        fields = self.mapping(placed, place)
        for key, item in fields.items():
            if key not in known:
                inner = f"{place}.{key}" if place else key
                self.note(item, inner, f"is not a known key{hint(key, known)}")
        for key in required:
            if isinstance(placed.value, dict) and key not in fields:
                self.note(placed, place, f"lacks {key}")
        return {key: item for key, item in fields.items() if key in known}

    def mapping(self, placed: Placed | None, place: str) -> dict[str, Placed]:
        """The fields of a mapping, whatever their names; none when it is absent."""
        if placed is None:
            return {}
        if not isinstance(placed.value, dict):
            self.note(placed, place, f"is {said(placed)}, must be a mapping of keys to values")
            return {}
        return placed.value

    def items(self, placed: Placed | None, place: str) -> list[tuple[str, Placed]]:
        """The items of a list, each with its place; none when it is absent."""
        if placed is None:
            return []
        if not isinstance(placed.value, tuple):
            self.note(placed, place, f"is {said(placed)}, must be a list")
            return []
        return [(f"{place}[{n}]", item) for n, item in enumerate(placed.value)]

    def note(self, placed: Placed, place: str, message: str) -> None:
        """Notes a mistake."""
        self.mistakes.append(Mistake(placed.line, place, message))


def said(placed: Placed) -> str:
    """The value as a message names it."""
    match placed.value:
        case None:
            return "empty"
        case dict():
            return "a mapping"
        case tuple():
            return "a list"
        case bool() as truth:
            return "true" if truth else "false"
        case value:
            return repr(value)


def hint(word: Value, known: Iterable[str]) -> str:
    """`; did you mean ...?` where a known word is near; else nothing."""
    close = get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f"; did you mean {close[0]}?" if close else ""
