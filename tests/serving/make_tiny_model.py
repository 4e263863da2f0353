"""Makes `tiny_model.onnx`: a model of the real shape, small enough to be read, for tests only.

Run it with the package `onnx` installed: `python tests/serving/make_tiny_model.py`.

next_action = softmax over actions of the summed rows of a fixed table, one for each step; entry 0
is nothing. purchase = sigmoid of the mean of the price buckets. The model counts to the largest
item hash below 2**40 in a loop, so that a test can make it slow; larger hashes do not slow it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ACTION_COUNT = 22


def constant(name: str, value: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype=dtype), name)


def tiny_model() -> onnx.ModelProto:
    table = np.random.default_rng(7).normal(size=(ACTION_COUNT, ACTION_COUNT)).astype(np.float32)
    table[0] = 0.0  # padding adds nothing
    bias = np.zeros(ACTION_COUNT, dtype=np.float32)
    bias[0] = -1e9
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("Sin", ["x"], ["y"]),
        ],
        "count",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
        ],
    )
    node = helper.make_node
    nodes = [
        node("Gather", ["paths", "action"], ["actions"], axis=1),
        node("Gather", ["table", "actions"], ["rows"], axis=0),
        node("ReduceSum", ["rows", "time_axis"], ["sums"], keepdims=0),
        node("Add", ["sums", "bias"], ["logits"]),
        node("Gather", ["paths", "item"], ["items"], axis=1),
        node("Less", ["items", "slow_limit"], ["slow"]),
        node("Where", ["slow", "items", "zero"], ["turns_of"]),
        node("ReduceMax", ["turns_of"], ["turns"], keepdims=0),
        node("Loop", ["turns", "yes", "start"], ["counted"], body=body),
        node("Mul", ["counted", "start"], ["nothing"]),  # 0, but the runtime cannot know
        node("Add", ["logits", "nothing"], ["logits_late"]),
        node("Softmax", ["logits_late"], ["next_action"], axis=-1),
        node("Gather", ["paths", "price"], ["prices"], axis=1),
        node("Cast", ["prices"], ["prices_float"], to=TensorProto.FLOAT),
        node("ReduceSum", ["prices_float", "time_axis"], ["price_sums"], keepdims=0),
        node("Mul", ["price_sums", "scale"], ["price_scaled"]),
        node("Sigmoid", ["price_scaled"], ["purchase"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("paths", TensorProto.INT64, ["batch", 6, "time"])],
        [
            helper.make_tensor_value_info("next_action", TensorProto.FLOAT, ["batch", 22]),
            helper.make_tensor_value_info("purchase", TensorProto.FLOAT, ["batch"]),
        ],
        [
            constant("action", 0, np.int64),
            constant("item", 1, np.int64),
            constant("price", 3, np.int64),
            constant("time_axis", [1], np.int64),
            constant("slow_limit", 1 << 40, np.int64),
            constant("zero", 0, np.int64),
            constant("yes", True, np.bool_),
            constant("start", 0.0, np.float32),
            constant("scale", 0.003, np.float32),
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    onnx.save(tiny_model(), Path(__file__).with_name("tiny_model.onnx"))
