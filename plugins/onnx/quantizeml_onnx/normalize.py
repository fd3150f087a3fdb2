"""prepare: a working copy in one spelling, which the rewrites and the rules read.

    local functions inlined, Constant nodes made initializers, initializers no inputs, every node named, opset 17 or newer,
    a symbolic batch "N", every shape inferred

The caller's model is not modified, nor needed any more. The copy computes the same as the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from quantizeml_core.errors import ModelError, UsageError
from quantizeml_core.hooks import InputShape
from quantizeml_core.names import Names

from . import opset
from .frames import is_buffer_function, kept
from .order import order
from .rewrites.driver import remove_dead
from .rewrites.graph import dims, is_constant, operand
from .shapes import KEPT_BYTES, infer
from .static_batch import free_batch

BATCH = "N"


def prepare(model: onnx.ModelProto, *, input_shape: InputShape = None) -> ir.Model:
    """A normalized working copy.

    Arguments:
        model: a float model, opset 7 or newer.
        input_shape: the shape of the input without its batch, in the model's own layout (a mapping by name for several inputs).

    Raises:
        ModelError: opset too old, contradictory or incomplete shapes, a dimension of size 0.
        UsageError: an input_shape that does not fit the inputs.
    """
    _check_opset(model)
    copy = _shaped(model, input_shape)
    if not opset.spellable(copy):
        copy = _shaped(opset.convert(model), input_shape)
    opset.respell(copy)
    _slices(copy.graph)
    _resizes(copy.graph)
    remove_dead(copy.graph)
    _own(copy.graph)
    return copy


def _own(graph: ir.Graph) -> None:
    """Large weights as arrays, read once: the caller's model need not live on, and whoever asks again gets the same array."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > KEPT_BYTES and tensor.dtype != ir.DataType.STRING:
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)


def _check_opset(model: onnx.ModelProto) -> None:
    version = opset.version_of(model)
    if version is None or version < opset.OLDEST:
        found = "imports no ONNX operator set" if version is None else f"uses opset {version}"
        raise ModelError(f"it {found}", where="the model", allowed=f"opset {opset.OLDEST} or newer",
                         do="Export it again, or convert it with onnx.version_converter.convert_version(model, 17)")


def _shaped(model: onnx.ModelProto, input_shape: InputShape) -> ir.Model:
    """The copy with constants, names and shapes settled, still in its own opset."""
    copy = _read(model)
    if "ai.onnx" in copy.graph.opset_imports:
        copy.graph.opset_imports[""] = copy.graph.opset_imports.pop("ai.onnx")
    if copy.functions:
        InlinePass(lambda function: not is_buffer_function(function))(copy)
    _constants(copy.graph)
    _names(copy.graph)
    _dimensions(copy, input_shape)
    return copy


def _read(model: onnx.ModelProto) -> ir.Model:
    """The copy, its nodes in order; a model in memory has passed no checker."""
    try:
        copy = ir.from_proto(model)
    except ir.serde.SerdeError as error:
        raise ModelError(f"it is not a valid ONNX model: {' '.join(str(error.__cause__ or error).split())}", where="the model",
                         do="Run onnx.checker.check_model(model) and correct it") from error
    positions = order(model.graph.node)
    if positions != sorted(positions):
        copy.graph.sort()
    return copy


# ---- constants and names

def _constants(graph: ir.Graph) -> None:
    """Constant nodes become initializers; initializers that old files list as inputs leave the inputs."""
    graph.inputs[:] = [v for v in graph.inputs if not is_constant(v)]
    for node in [n for n in graph if n.op_type == "Constant" and n.domain == ""]:
        tensor, value = _tensor(node), node.outputs[0]
        if tensor is not None and not value.is_graph_output():
            lifted = ir.Value(name=value.name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.replace_all_uses_with(lifted)
            graph.remove(node, safe=True)
            graph.register_initializer(lifted)


_TYPES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _tensor(node: ir.Node) -> ir.Tensor | None:
    """The tensor of a Constant node, None for strings and sparse ones. A record of its own: naming it would rename the caller's tensor."""
    name, attribute = next(iter(node.attributes.items()))
    if name == "value" and attribute.value.dtype != ir.DataType.STRING:
        return ir.Tensor(attribute.value.numpy(), dtype=attribute.value.dtype, name=node.outputs[0].name)
    return ir.tensor(np.asarray(attribute.value, _TYPES[name]), name=node.outputs[0].name) if name in _TYPES else None


def _names(graph: ir.Graph) -> None:
    """Unnamed nodes, and nodes whose name is taken, are called like their first output."""
    free, seen = Names(node.name or "" for node in graph), {""}
    for node in graph:
        if (node.name or "") in seen:
            node.name = free(next((v.name for v in node.outputs if v.name), node.name or "node"))
        seen.add(node.name)


def _slices(graph: ir.Graph) -> None:
    """A Split of an image's channels is a Slice for each part, so that every node has one output."""
    for node in [n for n in graph if n.op_type == "Split" and n.domain == "" and len(dims(n.inputs[0]) or ()) == 4]:
        sizes = [(dims(v) or ())[1:2] for v in node.outputs]
        if node.attributes.get_int("axis", 0) in (1, -3) and all(s and s[0] for s in sizes):
            ends = np.cumsum([s[0] for s in sizes])
            for value, start, end in zip(node.outputs, [0, *ends[:-1]], ends, strict=True):
                _slice(graph, node, value, int(start), int(end))
            graph.remove(node, safe=True)


def _slice(graph: ir.Graph, node: ir.Node, value: ir.Value, start: int, end: int) -> None:
    """One part: it takes the name of the output it stands for."""
    bounds = [opset.initializer(graph, value.name or "", name, np.array([n], np.int64)) for name, n in (("starts", start), ("ends", end), ("axes", 1))]
    made = ir.Node("", "Slice", [node.inputs[0], *bounds], name=value.name)
    part, name = made.outputs[0], value.name
    part.shape, part.type = value.shape, value.type
    graph.insert_before(node, made)
    value.replace_all_uses_with(part, replace_graph_outputs=True)
    value.name, part.name = f"{name}/split", name


def _resizes(graph: ir.Graph) -> None:
    """An image that is resized to a whole multiple, however its size is computed, is resized by that multiple: for any batch, and nothing else reads the size."""
    for node in [n for n in graph if n.op_type == "Resize" and n.domain == "" and operand(n, 3) is not None]:
        before, after = dims(node.inputs[0]) or (), dims(node.outputs[0]) or ()
        if len(before) == len(after) == 4 and None not in (*before[1:], *after[1:]) and all(new % old == 0 for old, new in zip(before[1:], after[1:], strict=True)):
            factors = np.array([1, *(new // old for old, new in zip(before[1:], after[1:], strict=True))], np.float32)
            node.replace_input_with(3, None)
            node.replace_input_with(2, opset.initializer(graph, node.outputs[0].name or "", "factors", factors))
            node.attributes.pop("axes", None)
            node.outputs[0].shape = ir.Shape([node.inputs[0].shape[0], *after[1:]])


# ---- shapes

def _dimensions(model: ir.Model, input_shape: InputShape) -> None:
    graph = model.graph
    for name, shape in _given(graph, input_shape).items():
        value = next(v for v in graph.inputs if v.name == name)
        value.shape = ir.Shape([value.shape[0], *shape])
    for value in graph.inputs:
        _check_input(value)
    said = {v: v.shape for v in graph.outputs}
    _forget(graph)
    if any(isinstance(v.shape[0], int) for v in _batched(graph)):
        infer(model)
        _resizes(graph)
        free_batch(graph)
        _forget(graph)
    for value in _batched(graph):
        value.shape = ir.Shape([BATCH, *value.shape[1:]])
    infer(model)
    for value, shape in said.items():
        if value.shape is None and shape is not None:
            value.shape = ir.Shape([None, *shape[1:]]) if len(shape) else shape


def _given(graph: ir.Graph, input_shape: InputShape) -> Mapping[str, tuple[int, ...]]:
    """input_shape by input name, checked against ranks."""
    if input_shape is None:
        return {}
    states = kept(graph)
    names = [v.name for v in graph.inputs if v.name not in states]
    if not isinstance(input_shape, Mapping):
        if len(names) != 1:
            raise UsageError(f"the model has {len(names)} inputs", where="input_shape",
                             do="Give samples, their shapes are taken; in Python, a mapping from input names to shapes")
        input_shape = {names[0]: tuple(input_shape)}
    ranks = {v.name: len(v.shape) - 1 for v in graph.inputs if v.shape is not None}
    for name, shape in input_shape.items():
        if len(shape) != ranks.get(name, -1):
            allowed = f"{ranks[name]} sizes, batch left out" if name in ranks else ", ".join(map(str, names))
            raise UsageError(f"{tuple(shape)} does not fit input `{name}`", where="input_shape", allowed=allowed)
    return input_shape


def _check_input(value: ir.Value) -> None:
    shape = dims(value)
    if shape is None:
        raise ModelError("its rank is not known", where=f"input `{value.name}`", do="Export the model with a shape for this input")
    if 0 in shape:
        raise ModelError(f"its shape {shape} has a dimension of size 0", where=f"input `{value.name}`", allowed="sizes of at least 1")
    if None in shape[1:]:
        shown = ", ".join("?" if d is None else str(d) for d in shape)
        raise ModelError(f"its shape ({shown}) is dynamic beyond the batch", where=f"input `{value.name}`",
                         do="Give samples, or the shape without its batch, for example --input_shape 3,224,224")


def _batched(graph: ir.Graph) -> list[ir.Value]:
    """Inputs whose axis 0 is the batch: those of rank 2 and more."""
    return [v for v in graph.inputs if len(v.shape) > 1]


def _forget(graph: ir.Graph) -> None:
    """Shapes written by the exporter may hold its batch, and element types of another opset."""
    for value in (v for node in graph for v in node.outputs):
        value.shape = None
        if not value.is_graph_output():
            value.type = None

