"""`clickpath policy lint FILE`, `clickpath policy show [FILE]`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from clickpath.cli import CommandParser
from clickpath.errors import UsageError
from clickpath.placed import Mistake
from clickpath.policy import Policy
from clickpath.policy_file import default_policy_text, lint_policy, load_policy


def policy(argv: Sequence[str]) -> int:
    """Checks or shows a policy file; exit code 1 when lint finds a mistake."""
    parser = CommandParser(prog="clickpath policy", description="Check or show a policy file.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lint = commands.add_parser("lint", help="list every mistake in a policy file, with its line")
    lint.add_argument("file", metavar="FILE")
    lint.add_argument("--json", action="store_true", help="one JSON object on the last line")
    show = commands.add_parser("show", help="print what a policy means, defaults included")
    show.add_argument("file", metavar="FILE", nargs="?", help="default: the shipped policy")
    show.add_argument("--yaml", action="store_true", help="its text, to start your own from")
    options = parser.parse_args(argv)
    if options.command == "lint":
        return _lint(options.file, as_json=options.json)
    return _show(options.file, as_yaml=options.yaml)


def _lint(file: str, *, as_json: bool) -> int:
    found, mistakes = lint_policy(_read(file))
    for mistake in mistakes:
        print(f"{file}:{mistake}")
    if found is not None and not as_json:
        names = ", ".join(kind.name for kind in found.kinds) or "no kinds"
        print(f"{file} is a valid policy: {found.name} ({found.digest}) with {names}")
    if as_json:
        print(json.dumps(_report(file, found, mistakes)))
    return 1 if mistakes else 0


def _report(file: str, found: Policy | None, mistakes: Sequence[Mistake]) -> dict[str, object]:
    return {
        "file": file,
        "valid": found is not None,
        "name": found.name if found else None,
        "digest": found.digest if found else None,
        "kinds": [kind.name for kind in found.kinds] if found else None,
        "mistakes": [mistake._asdict() for mistake in mistakes],
    }


def _show(file: str | None, *, as_yaml: bool) -> int:
    where = file or "default_policy.yaml"
    text = _read(file) if file else default_policy_text()
    found = load_policy(text, where)
    if as_yaml:
        print(text, end="")
    else:
        meaning = json.loads(found.canonical_json())
        print(json.dumps({"name": found.name, "digest": found.digest} | meaning, indent=2))
    return 0


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: byte {error.start}") from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
