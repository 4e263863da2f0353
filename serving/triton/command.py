"""`clickpath triton repository DIR`, `clickpath triton up DIR`."""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from clickpath.cli import CommandParser
from clickpath.errors import UsageError

_LAST_PORT: Final = 65_535


def triton(argv: Sequence[str]) -> int:
    """Runs the command."""
    options = _parser().parse_args(argv)
    return _up(options) if options.command == "up" else _repository(options)


def _parser() -> CommandParser:
    # Only now: the classes behind these arguments load onnxruntime.
    from serving.repository.arguments import add_arguments
    from serving.repository.versions import DEFAULT_NAME

    parser = CommandParser(
        prog="clickpath triton",
        description="Writes models for Triton, and starts a tritonserver to try them with.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    repository = commands.add_parser(
        "repository", help="add a model to a model repository, as its newest version"
    )
    repository.add_argument("directory", metavar="DIR", help="the repository")
    repository.add_argument(
        "--model", default="shipped", metavar="DIR", help="model directory, or `shipped` (default)"
    )
    add_arguments(repository)
    up = commands.add_parser(
        "up",
        help="a tritonserver on the loopback, for development and tests",
        description="Starts a real tritonserver with the models of a repository, on the loopback. "
        "It is an old release with known holes, for development and tests only.",
    )
    up.add_argument("directory", metavar="DIR", help="the repository")
    up.add_argument("--name", default=DEFAULT_NAME, help=f"of the model; {DEFAULT_NAME}")
    up.add_argument("--port", type=int, default=0, help="of gRPC; by default a free one")
    up.add_argument("--public-key", metavar="FILE", help="key, as PEM, that signed the versions")
    for each in (repository, up):
        each.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line of stdout"
        )
    return parser


def _repository(options: argparse.Namespace) -> int:
    from serving.embedded import shipped_model
    from serving.repository.arguments import add_version_of

    model = shipped_model() if options.model == "shipped" else Path(options.model)
    version = add_version_of(options, Path(options.directory), model)
    print(f"{version.directory}: model {version.card.digest} is version {version.number}")
    if options.json:
        print(
            json.dumps(
                {
                    "directory": str(version.directory),
                    "name": options.name,
                    "version": version.number,
                    "digest": version.card.digest,
                }
            )
        )
    return 0


def _up(options: argparse.Namespace) -> int:
    from serving.local_server.server import LocalServer, ServerError
    from serving.manifest import read_public_key
    from serving.repository.versions import versions

    if not 0 <= options.port <= _LAST_PORT:
        raise UsageError(f"--port is {options.port}; a port is from 0 (any) to {_LAST_PORT}")
    signal.signal(signal.SIGTERM, _terminated)
    repository = Path(options.directory)
    key = read_public_key(Path(options.public_key)) if options.public_key else None
    found = versions(repository, options.name, key)
    if not found:
        raise UsageError(f"there is no version of a model {options.name} in {repository}")
    with LocalServer(repository, [options.name], port=options.port) as server:
        numbers = [version.number for version in found]
        print(
            f"tritonserver at {server.url} has {options.name}, versions {numbers}; Ctrl-C stops it",
            flush=True,
        )
        if options.json:
            record = {"url": server.url, "pid": server.pid, "name": options.name}
            print(json.dumps({**record, "versions": numbers}), flush=True)
        while server.running:
            time.sleep(0.2)
        raise ServerError("the local tritonserver has ended")


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
