"""Nodes and random weights, in the order in which they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Pads = Sequence[int]


class Builder:
    """A graph under construction. Tensors are named after their node; `channels` knows axis 1 (or the last, for what is channels last)."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {}

    def node(self, op: str, *inputs: str, channels: int = 0, outputs: int = 1, **attributes: Any) -> str:
        """One node; its output's name. Channels are those of the first input when they are not told."""
        name = f"{op.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name, **attributes))
        self.channels |= dict.fromkeys(names, channels or self.channels.get(inputs[0], 0))
        return name

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, *shape: int, fan_in: int = 0) -> str:
        """He-normal (arXiv 1502.01852): the variance of a sum behind a ReLU stays one."""
        deviation = np.sqrt(2 / (fan_in or np.prod(shape[1:])))
        return self.constant(self.rng.normal(size=shape) * deviation)

    def bias(self, size: int) -> str:
        return self.constant(self.rng.normal(size=size) * 0.02)

    def conv(self, x: str, filters: int, kernel: int | tuple[int, ...], stride: int = 1, *, groups: int = 1, pads: Pads | None = None, bias: bool = True,
             dilation: int = 1, dims: int = 2) -> str:
        """A convolution, padded to keep its size unless told otherwise."""
        sizes = (kernel,) * dims if isinstance(kernel, int) else kernel
        around = [(k - 1) * dilation // 2 for k in sizes] * 2 if pads is None else list(pads)
        inputs = [x, self.weight(filters, self.channels[x] // groups, *sizes), *([self.bias(filters)] if bias else [])]
        return self.node("Conv", *inputs, channels=filters, kernel_shape=list(sizes), strides=[stride] * dims, pads=around, group=groups,
                         dilations=[dilation] * dims)

    def normalization(self, x: str) -> str:
        """A BatchNormalization with statistics as training leaves them."""
        size, draw = self.channels[x], self.rng.normal
        values = (1 + 0.1 * draw(size=size), 0.1 * draw(size=size), 0.1 * draw(size=size), 1 + 0.1 * np.abs(draw(size=size)))
        return self.node("BatchNormalization", x, *(self.constant(v) for v in values), epsilon=1e-5)

    def clip(self, x: str, low: float = 0.0, high: float = 6.0) -> str:
        return self.node("Clip", x, self.constant(low), self.constant(high))

    def pool(self, x: str, size: int, stride: int, pads: Pads = (0, 0, 0, 0), kind: str = "MaxPool", **attributes: Any) -> str:
        dims = len(pads) // 2
        return self.node(kind, x, kernel_shape=[size] * dims, strides=[stride] * dims, pads=list(pads), **attributes)

    def concat(self, parts: Iterable[str], axis: int = 1) -> str:
        names = list(parts)
        return self.node("Concat", *names, axis=axis, channels=sum(self.channels[n] for n in names))

    def gemm(self, x: str, units: int, inputs: int) -> str:
        return self.node("Gemm", x, self.weight(units, inputs), self.bias(units), transB=1, channels=units)

    def classifier(self, x: str, classes: int = 1000) -> str:
        """Global average, flatten, one dense layer."""
        return self.gemm(self.node("Flatten", self.node("GlobalAveragePool", x)), classes, self.channels[x])

    def model(self, name: str, entry: str, shape: Sequence[int], outputs: Sequence[tuple[str, Sequence[int | str]]], opset: int = 17) -> onnx.ModelProto:
        """The checked model. Shapes without the batch."""
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *s]) for n, s in ((entry, shape), *outputs)]
        graph = helper.make_graph(self.nodes, name, values[:1], values[1:], self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(made)
        return made


def image_input(builder: Builder, channels: int = 3) -> str:
    builder.channels["input"] = channels
    return "input"
