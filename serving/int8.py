"""A graph in 8-bit integers: a quarter of the size, about the same answers.

The scales of the activations are found beforehand, on example paths (static quantisation: Jacob et
al., "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", 2018). Scales that are found anew in each run are more exact, but then the scores of a
path depend on who else is in the batch, which no predictor's may (`serving.predictor`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from serving.graph import INPUT_NAME


def quantized(graph: bytes, examples: Iterable[npt.NDArray[np.int64]]) -> bytes:
    """The graph with matrices, tables and what goes through them in 8 bits.

    Needs the package `onnx`, which the trainer has and a worker does not.

    Args:
        graph: A model in single precision.
        examples: Batches of paths like those that it will be asked about.
    """
    from onnxruntime.quantization import QuantType, quantize_static

    # It advises a preparation that the exporter has done already.
    logging.getLogger().setLevel(logging.ERROR)
    with TemporaryDirectory(prefix="clickpath-int8-") as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        whole.write_bytes(graph)
        quantize_static(
            whole,
            small,
            _Reader(examples),
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return small.read_bytes()


class _Reader:
    """Examples in the form that the quantiser asks for."""

    def __init__(self, examples: Iterable[npt.NDArray[np.int64]]) -> None:
        self._batches = iter(examples)

    def get_next(self) -> dict[str, npt.NDArray[np.int64]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}
