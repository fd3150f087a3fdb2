"""Shape inference on a working copy. Large initializers stay out of it: only their shapes are serialized.

Element types of old operators (a Dropout mask was float before opset 10) are inferred at the model's own opset, before any respelling.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from quantizeml_core.errors import ModelError

KEPT_BYTES = 1024
"""Initializers up to this size keep their values: they may be shapes."""


def infer(model: ir.Model) -> None:
    """Sets shape and type of every value that can be inferred. Raises ModelError when the graph contradicts itself."""
    values = {v.name: v for node in model.graph for v in node.outputs}
    for info in _inferred(skeleton(model)[0]):
        if info.name in values:
            _merge(values[info.name], info.type)


def infer_missing(model: ir.Model) -> None:
    """Infers again when a node output has no complete shape (batch aside). A graph that cannot be inferred stays as it is."""
    if any(v.shape is None or any(not isinstance(d, int) for d in v.shape[1:]) for node in model.graph for v in node.outputs):
        try:
            infer(model)
        except ModelError:
            return


def _inferred(proto: onnx.ModelProto) -> tuple[onnx.ValueInfoProto, ...]:
    try:
        graph = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, DecodeError) as error:
        raise ModelError(f"its shapes contradict each other: {' '.join(str(error).split())}", where="the model",
                         do="Run onnx.checker.check_model(model, full_check=True) and correct the export") from error
    return (*graph.value_info, *graph.output)


def _merge(value: ir.Value, proto: onnx.TypeProto) -> None:
    inferred = ir.serde.deserialize_type_proto_for_shape(proto)
    if inferred is not None and (value.shape is None or _known(inferred) >= _known(value.shape)):
        value.shape = inferred
    kind = ir.serde.deserialize_type_proto_for_type(proto)
    value.type = kind if kind is not None else value.type


def _known(shape: ir.Shape) -> int:
    return sum(isinstance(d, int) for d in shape)


def skeleton(model: ir.Model) -> tuple[onnx.ModelProto, list[ir.Value]]:
    """The graph with large initializers turned into inputs, and those; the model is as before afterwards."""
    graph = model.graph
    inputs = tuple(graph.inputs)
    large = [v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > KEPT_BYTES]
    for value in large:
        value.shape, value.type = ir.Shape(value.const_value.shape), ir.TensorType(value.const_value.dtype)
        del graph.initializers[value.name]
        graph.inputs.append(value)
    try:
        return ir.to_proto(model), large
    finally:
        graph.inputs[:] = inputs
        for value in large:
            graph.register_initializer(value)
