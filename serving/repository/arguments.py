"""The arguments of commands that write a model into a Triton repository."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from serving.manifest import read_private_key
from serving.repository.config import BACKENDS, ServingPlan
from serving.repository.versions import DEFAULT_NAME, Version, add_version

_MEANINGS = {
    "instances": "copies of the model that run at the same time",
    "max_batch": "most paths in one run",
    "queue_delay_us": "how long a request may wait for others to run with",
    "max_queue": "most requests that wait; further ones are refused",
    "queue_timeout_ms": "how long a request may wait before it is refused",
    "versions": "how many of the newest versions Triton keeps loaded until one is promoted",
    "run_threads": "threads within one run on a CPU",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a version in a repository is named, signed and served by."""
    group = parser.add_argument_group("how Triton serves it")
    group.add_argument("--name", default=DEFAULT_NAME, help=f"of the model; {DEFAULT_NAME}")
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        default="onnxruntime",
        help="onnxruntime on GPUs (default), python on CPUs",
    )
    group.add_argument(
        "--tensorrt", action="store_true", help="let TensorRT run the graph, in half precision"
    )
    defaults = {field.name: field.default for field in fields(ServingPlan)}
    for name, meaning in _MEANINGS.items():
        option = f"--{name.replace('_', '-')}"
        help_text = f"{meaning}; {defaults[name]}"
        group.add_argument(option, type=int, default=defaults[name], metavar="N", help=help_text)
    group.add_argument("--sign", metavar="FILE", help="Ed25519 key, as PEM, that signs the version")


def add_version_of(options: argparse.Namespace, repository: Path, model: Path) -> Version:
    """Adds a model directory to a repository, as the arguments say.

    Raises:
        ConfigError: An argument has a value that cannot be.
        ModelMismatch: The model fits neither its card nor the versions that are there.
        UsageError: The repository cannot be written to.
    """
    return add_version(
        repository,
        model,
        ServingPlan(
            backend=options.backend,
            tensorrt=options.tensorrt,
            **{name: getattr(options, name) for name in _MEANINGS},
        ),
        name=options.name,
        private_key=read_private_key(Path(options.sign)) if options.sign else None,
    )
