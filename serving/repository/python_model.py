"""A model on Triton's Python backend: its graph in onnxruntime, on the CPU.

It is copied beside the graph as `model.py` and runs inside Triton, in an environment that has numpy
and onnxruntime; so it imports nothing of ours.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_ROWS = 64


class TritonPythonModel:
    """What Triton looks for in `model.py`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph of a version, after a look at its manifest."""
        folder = Path(args["model_repository"]) / args["model_version"]
        manifest = json.loads((folder / "manifest.json").read_bytes())
        for name, digest in manifest["files"].items():
            found = sha256((folder / name).read_bytes()).hexdigest()
            if found != digest:
                raise pb_utils.TritonModelException(
                    f"{folder / name} has digest {found[:16]}, its manifest says {digest[:16]}"
                )
        config = json.loads(args["model_config"])
        self._names = [output["name"] for output in config["output"]]
        self._input = config["input"][0]["name"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests of a batch with one run; all their paths have the same length."""
        # Nobody waits for a call that was given up in the queue.
        wanted = [request for request in requests if not request.is_cancelled()]
        answers = iter(self._answers(wanted) if wanted else [])
        gone = pb_utils.TritonError("the call was given up", pb_utils.TritonError.CANCELLED)
        return [
            pb_utils.InferenceResponse(error=gone) if request not in wanted else next(answers)
            for request in requests
        ]

    def _answers(self, requests: list[Any]) -> list[Any]:
        inputs = [
            pb_utils.get_input_tensor_by_name(request, self._input).as_numpy()
            for request in requests
        ]
        outputs = self._outputs(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        ends = np.cumsum([len(each) for each in inputs])[:-1]
        parts = [np.split(output, ends) for output in outputs]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, part[n])
                    for name, part in zip(self._names, parts, strict=True)
                ]
            )
            for n in range(len(requests))
        ]

    def _outputs(self, paths: Any) -> list[Any]:
        # Parts of about the same size: they stay in the caches of a core, and none has a single
        # row, which onnxruntime would sum in another order.
        parts = np.array_split(paths, -(-len(paths) // _ROWS))
        ran = [self._session.run(self._names, {self._input: part}) for part in parts]
        if len(ran) == 1:
            return list(ran[0])
        return [np.concatenate(output) for output in zip(*ran, strict=True)]
