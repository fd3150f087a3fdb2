"""Layers as the callbacks of `custom_pattern_scope` return them: attributes, float weights, and a name. `to_block` makes the block of one.

    def on_relu(block_nodes, graph):
        return QuantizedConv2D(activation=True, name=block_nodes[0].name)       # with a kernel set in its `__build__`

Weights: `kernel` (F, C/groups, kh, kw) or (F, Cin), `bias` (F,), `pads` int64 (0, 0, top, left, 0, 0, bottom, right), `max_value`. A range set by the
callback (`range_max`) is kept and not used: calibration finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx

from quantizeml_core.blocks import Activation, Block, Pool
from quantizeml_core.errors import UsageError

from .graph_tools import get_field, get_variable


class TensorShape(NamedTuple):
    """Shape (batch first) and numpy dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype


class OnnxLayer:
    """A block in the making.

    Arguments:
        base_name: the operation, `QuantizedConv2D` ...
        name: the block's name; that of the first node of its line when empty.
        attributes: strides, pool_size, pool_strides, pool_pads, groups.
    """

    kind = ""

    def __init__(self, base_name: str, name: str = "", **attributes: Any) -> None:
        self.base_name, self.name = base_name, name
        self.attributes = {key: value for key, value in attributes.items() if value is not None}
        self.serialize_attr: dict[str, Any] = {}
        self.weights: dict[str, np.ndarray] = {}
        self._add_weight("range_max", dtype="float32")

    def _add_weight(self, name: str, value: Any = (), dtype: str = "float32") -> None:
        self.weights[name] = np.asarray(value, dtype)

    def set_weight(self, name: str, value: Any) -> None:
        """Errors: UsageError for a weight the layer does not have."""
        if name not in self.weights:
            raise UsageError(f"`{self.base_name}` has no weight `{name}`", where=f"`{self.name}`", allowed=", ".join(self.weights))
        self.weights[name] = np.asarray(value)

    def __build__(self, *input_shapes: TensorShape, downscale: bool = True) -> TensorShape | None:
        """Called before the block is made; a subclass sets weights that hang on the shapes here."""
        return input_shapes[0] if input_shapes else None


class _Linear(OnnxLayer):
    def __init__(self, base_name: str, name: str = "", activation: bool | str = False, pool_type: str = "none", **attributes: Any) -> None:
        super().__init__(base_name, name, **attributes)
        self.serialize_attr |= {"activation": activation, "pool_type": pool_type}
        for weight in ("kernel", "bias", "max_value"):
            self._add_weight(weight)
        self._add_weight("pads", np.zeros(8), "int64")


class QuantizedConv2D(_Linear):
    """A convolution with an optional pooling (`max`, `gap`) and ReLU."""

    kind = "conv2d"

    def __init__(self, strides: Sequence[int] = (1, 1), pool_type: str = "none", pool_size: Sequence[int] = (2, 2), pool_strides: Sequence[int] | None = None,
                 pool_pads: Sequence[int] = (0, 0, 0, 0), input_conv: bool = False, activation: bool | str = False, name: str = "") -> None:
        super().__init__("QuantizedConv2D", name, activation, pool_type, strides=list(strides), pool_size=list(pool_size),
                         pool_strides=list(pool_strides or pool_size), pool_pads=list(pool_pads))
        self.serialize_attr["input_conv"] = input_conv


class QuantizedDepthwise2D(_Linear):
    """A depthwise convolution with an optional ReLU. `kernel` is (C, 1, kh, kw)."""

    kind = "depthwise2d"

    def __init__(self, strides: Sequence[int] = (1, 1), activation: bool | str = False, name: str = "") -> None:
        super().__init__("QuantizedDepthwise2D", name, activation, strides=list(strides))


class QuantizedDense1D(_Linear):
    """A dense layer, its input flattened when asked for. `kernel` is (F, Cin)."""

    kind = "dense"

    def __init__(self, flatten: bool = False, activation: bool | str = False, name: str = "") -> None:
        super().__init__("QuantizedDense1D", name, activation)
        self.serialize_attr["flatten"] = flatten


class QuantizedAdd(OnnxLayer):
    """The sum of two tensors of one shape."""

    kind = "add"

    def __init__(self, activation: bool | str = False, name: str = "") -> None:
        super().__init__("QuantizedAdd", name)
        self.serialize_attr["activation"] = activation


def to_block(layer: OnnxLayer, inputs: tuple[str, ...], output: str, shapes: Sequence[tuple[int | None, ...]], name: str) -> Block:
    """The block of a layer, once built for the shapes of its inputs (batch first). UsageError when it has no kernel."""
    layer.__build__(*(TensorShape(tuple(s or 1 for s in shape), np.dtype("int8")) for shape in shapes))
    arrays = {"weight": layer.weights.get("kernel"), "bias": layer.weights.get("bias")}
    if layer.kind in ("conv2d", "depthwise2d", "dense") and not arrays["weight"].size:
        raise UsageError(f"its `{layer.base_name}` has no kernel", where=f"`{layer.name or name}`", do='Call set_weight("kernel", array) in `__build__`')
    pads, at = layer.weights.get("pads", np.zeros(8, np.int64)), layer.attributes
    return Block(
        layer.name or name, layer.kind, inputs, output, strides=_pair(at.get("strides", (1, 1))), pads=tuple(int(pads[i]) for i in (2, 3, 6, 7)),
        groups=len(arrays["weight"]) if layer.kind == "depthwise2d" else 1, flatten=bool(layer.serialize_attr.get("flatten")),
        activation=_activation(layer), pool=_pool(layer), arrays={k: v for k, v in arrays.items() if v is not None and v.size},
    )


def get_qconv(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto, tensor_ranges: Mapping[str, Any] | None = None) -> QuantizedConv2D:
    """The layer of a line Conv [MaxPool | GlobalAveragePool] [Relu | Clip], to be edited."""
    conv = nodes[0]
    pool = next((n for n in nodes if n.op_type == "MaxPool"), None)
    kind = "max" if pool is not None else "gap" if any(n.op_type == "GlobalAveragePool" for n in nodes) else "none"
    window = {} if pool is None else {"pool_size": get_field(pool, "kernel_shape"), "pool_strides": get_field(pool, "strides", (1, 1)),
                                      "pool_pads": get_field(pool, "pads", (0, 0, 0, 0))}
    layer = QuantizedConv2D(get_field(conv, "strides", (1, 1)), kind, activation=_has_relu(nodes), name=conv.name, **window)
    return _filled(layer, nodes, graph)


def get_qdepthwise(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto, tensor_ranges: Mapping[str, Any] | None = None) -> QuantizedDepthwise2D:
    """The layer of a line of a depthwise Conv [Relu | Clip]."""
    layer = QuantizedDepthwise2D(get_field(nodes[0], "strides", (1, 1)), _has_relu(nodes), nodes[0].name)
    return _filled(layer, nodes, graph)


def get_qgemm(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto, tensor_ranges: Mapping[str, Any] | None = None) -> QuantizedDense1D:
    """The layer of a line [Flatten] Gemm [Relu | Clip]."""
    gemm = next(n for n in nodes if n.op_type == "Gemm")
    return _filled(QuantizedDense1D(nodes[0].op_type == "Flatten", _has_relu(nodes), gemm.name), [gemm, *nodes], graph)


def get_qadd(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto, tensor_ranges: Mapping[str, Any] | None = None) -> QuantizedAdd:
    """The layer of a line Add [Relu | Clip]."""
    return QuantizedAdd(_has_relu(nodes), nodes[0].name)


def _filled(layer: Any, nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> Any:
    """Kernel, bias, pads and bound from the graph."""
    linear = nodes[0]
    for index, name in ((1, "kernel"), (2, "bias")):
        if len(linear.input) > index and linear.input[index]:
            layer.set_weight(name, get_variable(linear.input[index], graph))
    top, left, bottom, right = get_field(linear, "pads", (0, 0, 0, 0))
    layer.set_weight("pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    clip = next((n for n in nodes if n.op_type == "Clip"), None)
    if clip is not None:
        layer.set_weight("max_value", get_variable(clip.input[2], graph))
    return layer


def _has_relu(nodes: Sequence[onnx.NodeProto]) -> bool:
    return any(n.op_type in ("Relu", "Clip") for n in nodes)


def _activation(layer: OnnxLayer) -> Activation | None:
    bound = layer.weights.get("max_value", np.zeros(0))
    return Activation("relu", float(bound.max()) if bound.size else None) if layer.serialize_attr.get("activation") else None


def _pool(layer: OnnxLayer) -> Pool | None:
    kind, at = layer.serialize_attr.get("pool_type", "none"), layer.attributes
    if kind == "max":
        return Pool("max", _pair(at["pool_size"]), _pair(at["pool_strides"]), tuple(int(p) for p in at["pool_pads"]))
    return Pool("gap") if kind == "gap" else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
