"""A network of ResNet50's shape with random weights, as torch.onnx writes one (symmetric pads, 1x1 with stride 2, ReLU behind Add): for time and memory
and for what a target makes of it, never for accuracy.

    python -m benchmarks.resnet50 build/resnet50.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and stride of the first block."""


class Builder:
    """Nodes and weights, in order."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        name = f"weight_{len(self.weights)}"
        values = self.rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else np.zeros(shape)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, x: str, channels: int, filters: int, kernel: int, stride: int = 1) -> str:
        pads = [kernel // 2] * 4
        return self.node("Conv", x, self.weight(filters, channels, kernel, kernel), self.weight(filters), kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2)

    def bottleneck(self, x: str, channels: int, width: int, stride: int) -> str:
        y = self.node("Relu", self.conv(x, channels, width, 1))
        y = self.node("Relu", self.conv(y, width, width, 3, stride))
        y = self.conv(y, width, 4 * width, 1)
        x = self.conv(x, channels, 4 * width, 1, stride) if channels != 4 * width else x
        return self.node("Relu", self.node("Add", y, x))


def model() -> onnx.ModelProto:
    """(N, 3, 224, 224) -> (N, 1000)."""
    b = Builder()
    x = b.node("Relu", b.conv("input", 3, 64, 7, 2))
    x, channels = b.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), 64
    for width, blocks, stride in STAGES:
        for i in range(blocks):
            x, channels = b.bottleneck(x, channels, width, stride if i == 0 else 1), 4 * width
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    x = b.node("Gemm", x, b.weight(1000, channels), b.weight(1000), transB=1)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("input", ["N", 3, 224, 224]), (x, ["N", 1000]))]
    graph = helper.make_graph(b.nodes, "resnet50", values[:1], values[1:], b.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model(), sys.argv[1])
