"""The Dockerfile, read far enough to say what an image would be and do."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Stage:
    """One stage with what it has from the stage that it begins with.

    Attributes:
        base: What stands after FROM.
        steps: Instruction and its text, in order, those of the stages before first.
    """

    base: str
    steps: tuple[tuple[str, str], ...]

    def last(self, instruction: str) -> str:
        """The text of the last instruction of a kind, which is the one that counts."""
        return [text for kind, text in self.steps if kind == instruction][-1]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        texts = [text for kind, text in self.steps if kind == "ENV"]
        return dict(each.split("=", 1) for text in texts for each in shlex.split(text))

    @property
    def command(self) -> list[str]:
        """The entry point with its default arguments."""
        entry = [text for kind, text in self.steps if kind == "ENTRYPOINT"]
        return [*(json.loads(entry[-1]) if entry else ()), *json.loads(self.last("CMD"))]

    @property
    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        command: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD ")[2])
        return command


def stages(text: str = TEXT) -> dict[str, Stage]:
    """The stages by name."""
    found: dict[str, Stage] = {}
    name = ""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(base, found[base].steps if base in found else ())
        elif kind and name:
            stage = found[name]
            found[name] = Stage(stage.base, (*stage.steps, (kind, rest)))
    return found
