"""`config.pbtxt`: how Triton serves a model, written from the signature of its graph.

The rules:

1.  The tensors are those of the graph: names, types and shapes come from nowhere else. Both
    backends have the same ones, so that a client cannot tell them apart.
2.  No queue is without an end: it has a size, and a request that waits too long is refused. A
    client may ask for less patience, never for more.
3.  Each version's fingerprints are parameters of the model. A client reads them before it asks
    for any score, and stays away from a version that does not fit.
4.  Which versions are loaded stands here and nowhere else, by their numbers, so that every server
    that reads the repository serves the same ones, also after a restart. Until something is
    promoted they are the first one, which decides so long, and the newest; from then on those
    that the rollout may need.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from clickpath.errors import ConfigError, ModelMismatch
from serving.batches import time_buckets
from serving.graph import Signature, Tensor
from serving.repository.fingerprints import PARAMETER, SIGNATURE_PARAMETER, Vouched

CONFIG_FILE: Final = "config.pbtxt"

#: Key of the parameter with the versions that a rollout may need; absent before the first one.
_KEPT: Final = "clickpath.kept"

Backend = Literal["onnxruntime", "python"]
BACKENDS: Final[tuple[Backend, ...]] = ("onnxruntime", "python")

_TYPES: Final = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlan:
    """How a model is served.

    Attributes:
        backend: `onnxruntime` on GPUs, `python` on CPUs.
        instances: Copies of the model that run at the same time, on each GPU or in all. With one,
            Triton's batcher can oversleep half a second behind a queue that has limits.
        max_batch: Most paths in one run, and in one request.
        queue_delay_us: How long a request may wait for others to run with.
        max_queue: Most requests that wait; 0 is no limit in Triton, and not allowed here.
        queue_timeout_ms: How long a request may wait before it is refused.
        versions: How many of the newest versions are kept loaded, beside the first one, until
            something is promoted.
        tensorrt: Whether TensorRT runs the graph, in half precision where it can.
        run_threads: Threads within one run on a CPU.

    Raises:
        ConfigError: A value that cannot be.
    """

    backend: Backend = "onnxruntime"
    instances: int = 2
    max_batch: int = 256
    queue_delay_us: int = 500
    max_queue: int = 256
    queue_timeout_ms: int = 1_000
    versions: int = 3
    tensorrt: bool = False
    run_threads: int = 1

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend is {self.backend!r}, known are {', '.join(BACKENDS)}")
        least = {"instances": 1, "max_batch": 2, "queue_delay_us": 0, "max_queue": 1}
        least |= {"queue_timeout_ms": 1, "versions": 1, "run_threads": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value < bound:
                raise ConfigError(f"{name} is {value}, the least is {bound}")
        if self.tensorrt and self.backend != "onnxruntime":
            raise ConfigError("TensorRT runs a graph on the onnxruntime backend only")


def config_text(
    name: str,
    signature: Signature,
    known: Mapping[int, Vouched],
    plan: ServingPlan,
    *,
    steps: int,
    kept: Collection[int] | None = None,
) -> str:
    """The content of `config.pbtxt`, in protobuf's text format.

    Args:
        name: Of the model.
        signature: Of its graph.
        known: By version, what a client compares.
        plan: How it is served.
        steps: Longest path.
        kept: The versions that are loaded; None for the first and the newest ones.

    Raises:
        ModelMismatch: The graph has a tensor that Triton cannot serve in batches.
    """
    on_gpu = plan.backend == "onnxruntime"
    inputs, outputs = signature
    return "\n".join(
        [
            f"name: {json.dumps(name)}",
            f"backend: {json.dumps(plan.backend)}",
            f"max_batch_size: {plan.max_batch}",
            *(_tensor("input", each) for each in inputs),
            *(_tensor("output", each) for each in outputs),
            f"instance_group {{ kind: {'KIND_GPU' if on_gpu else 'KIND_CPU'} "
            f"count: {plan.instances} }}",
            *_loaded_lines({min(known), *sorted(known)[-plan.versions :]}, kept),
            _batching(plan),
            *(_warm_up(inputs[0], length, plan) for length in time_buckets(steps)),
            *([_tensorrt()] if plan.tensorrt else []),
            *([] if on_gpu else [_parameter("threads", str(plan.run_threads))]),
            *(line for version, of in sorted(known.items()) for line in _said_of(version, of)),
            "",
        ]
    )


def kept_in(text: str) -> tuple[int, ...] | None:
    """The versions that a configuration keeps for a rollout; None where it keeps none."""
    pattern = re.escape(_parameter(_KEPT, "@")).replace("@", "([0-9,]+)")
    found = re.search(f"^{pattern}$", text, re.MULTILINE)
    return tuple(map(int, found[1].split(","))) if found else None


def keeping(text: str, known: Mapping[int, Vouched]) -> str:
    """A configuration that has just these versions loaded from now on.

    What else stands in it, also by somebody's hand, stays as it is.

    Args:
        text: The configuration.
        known: The versions, with what a client compares.

    Raises:
        ModelMismatch: It is not of the form that is written here.
    """
    keys = [_KEPT, *(f"{of}{n}" for of in (PARAMETER, SIGNATURE_PARAMETER) for n in known)]
    ours = ("version_policy ", *(f"parameters {{ key: {json.dumps(key)} " for key in keys))
    lines = [line for line in text.splitlines() if not line.startswith(ours)]
    if any("version_policy" in line for line in lines):
        raise ModelMismatch(
            "it has a version_policy that does not stand on one line of its own: which versions "
            "are loaded was changed by hand"
        )
    said = [line for version, of in sorted(known.items()) for line in _said_of(version, of)]
    return "\n".join([*lines, *_loaded_lines(known, known), *said, ""])


def _loaded_lines(usual: Collection[int], kept: Collection[int] | None) -> list[str]:
    numbers = sorted(usual if kept is None else kept)
    policy = f"version_policy {{ specific {{ versions: [ {', '.join(map(str, numbers))} ] }} }}"
    return [policy, *([] if kept is None else [_parameter(_KEPT, ",".join(map(str, numbers)))])]


def _said_of(version: int, of: Vouched) -> list[str]:
    said = [_parameter(f"{PARAMETER}{version}", of.fingerprints.text)]
    if of.signature:
        said.append(_parameter(f"{SIGNATURE_PARAMETER}{version}", of.signature))
    return said


def _tensor(kind: str, tensor: Tensor) -> str:
    if tensor.type not in _TYPES:
        raise ModelMismatch(
            f"the model has {kind} {tensor.name} of type {tensor.type}, "
            f"Triton is given {', '.join(_TYPES)}"
        )
    if not tensor.shape or tensor.shape[0] is not None:
        raise ModelMismatch(
            f"the model has {kind} {tensor.name} of shape {tensor.shape}, "
            "the first dimension must be a free one, of the batch"
        )
    dims = ", ".join("-1" if size is None else str(size) for size in tensor.shape[1:])
    # Triton knows no tensor without a dimension beside the batch: a number a row is a vector of 1.
    shape = f"dims: [ {dims} ]" if dims else "dims: [ 1 ] reshape { shape: [ ] }"
    return f"{kind} {{ name: {json.dumps(tensor.name)} data_type: {_TYPES[tensor.type]} {shape} }}"


def _batching(plan: ServingPlan) -> str:
    # No preferred_batch_size: a batch of any size runs as soon as the model is free.
    return f"""\
dynamic_batching {{
  max_queue_delay_microseconds: {plan.queue_delay_us}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {plan.queue_timeout_ms * 1_000}
    allow_timeout_override: true
    max_queue_size: {plan.max_queue}
  }}
}}"""


def _warm_up(tensor: Tensor, length: int, plan: ServingPlan) -> str:
    """A run of padding alone: any values, but of the real shape."""
    dims = ", ".join(str(length if size is None else size) for size in tensor.shape[1:])
    return f"""\
model_warmup {{
  name: "{length} steps"
  batch_size: {plan.max_batch}
  inputs {{
    key: {json.dumps(tensor.name)}
    value {{ data_type: {_TYPES[tensor.type]} dims: [ {dims} ] zero_data: true }}
  }}
}}"""


def _tensorrt() -> str:
    return """\
optimization {
  execution_accelerators {
    gpu_execution_accelerator {
      name: "tensorrt"
      parameters { key: "precision_mode" value: "FP16" }
      parameters { key: "max_workspace_size_bytes" value: "1073741824" }
      parameters { key: "trt_engine_cache_enable" value: "true" }
      parameters { key: "trt_engine_cache_path" value: "/tmp/clickpath-tensorrt" }
    }
  }
}"""


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
