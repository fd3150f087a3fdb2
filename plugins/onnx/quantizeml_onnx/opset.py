"""Old spellings made new: operators whose attributes became inputs, or whose defaults changed, between opset 7 and opset 17.

    Clip, Pad (11) . Squeeze, Unsqueeze, ReduceSum, Split (13) . Slice, TopK (10) . Softmax default axis 1 (13)
    Dropout ratio (12) . BatchNormalization spatial (9), training outputs (14)

Each respelling is exact. All other operators either mean the same since opset 7, or stand in `CONVERTED`: a model that holds one goes
through the converter of the onnx package first, which is slower and knows most of them. Newer opsets are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir

from quantizeml_core.errors import ModelError

from .rewrites.graph import attribute, rank

OLDEST = 7
NEWEST_SPELLING = 17


def version_of(model: onnx.ModelProto) -> int | None:
    """The opset of the standard domain, None when it is not imported."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)


def convert(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy at opset 17 by the converter of the onnx package. Errors: ModelError when it gives up."""
    try:
        converted = onnx.version_converter.convert_version(model, NEWEST_SPELLING)
        onnx.checker.check_model(converted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"it uses opset {version_of(model)} and cannot be converted to {NEWEST_SPELLING}: {reason}", where="the model",
                         do=f"Export it again with opset {NEWEST_SPELLING}") from error
    return converted


def spellable(model: ir.Model) -> bool:
    """Whether `respell` is exact for every node. Asked once shapes are inferred."""
    graph, version = model.graph, model.graph.opset_imports.get("", NEWEST_SPELLING)
    return all(_spellable(node, version, node.graph is graph) for node in graph.all_nodes() if node.domain == "")


def _spellable(node: ir.Node, version: int, outside: bool) -> bool:
    """Nodes in the subgraph of an If or a Loop are left to the converter."""
    if version < CONVERTED.get(node.op_type, 0):
        return False
    since, _ = TABLE.get(node.op_type, (0, None))
    return version >= since or outside and EXACT_IF.get(node.op_type, lambda _: True)(node)


def respell(model: ir.Model) -> None:
    """Brings a spellable model to opset 17 unless it is newer."""
    graph = model.graph
    version = graph.opset_imports[""]
    if version < NEWEST_SPELLING:
        for node in tuple(graph):
            since, change = TABLE.get(node.op_type, (0, None))
            if change and version < since and node.domain == "":
                change(graph, node)
        version = NEWEST_SPELLING
    graph.opset_imports[""] = version


def _as_inputs(*names: str, dtype: type = np.int64) -> Callable[[ir.Graph, ir.Node], None]:
    """Moves attributes to the inputs that follow the data input, in this order."""
    def change(graph: ir.Graph, node: ir.Node) -> None:
        values = [_initializer(graph, node, n, np.asarray(attribute(node, n), dtype)) if n in node.attributes else None for n in names]
        _inputs(graph, node, values)
        for name in names:
            node.attributes.pop(name, None)
    return change


def _inputs(graph: ir.Graph, node: ir.Node, values: Sequence[ir.Value | None]) -> None:
    while values and values[-1] is None:
        values = values[:-1]
    node.resize_inputs(1 + len(values))
    for index, value in enumerate(values, 1):
        node.replace_input_with(index, value)


def _initializer(graph: ir.Graph, node: ir.Node, name: str, array: np.ndarray) -> ir.Value:
    return initializer(graph, node.outputs[0].name or "", name, array)


def initializer(graph: ir.Graph, owner: str, name: str, array: np.ndarray) -> ir.Value:
    """A constant called after the tensor it serves."""
    full = f"{owner}/{name}"
    value = ir.Value(name=full, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                     const_value=ir.tensor(array, name=full))
    graph.register_initializer(value)
    return value


def _pad(graph: ir.Graph, node: ir.Node) -> None:
    pads = _initializer(graph, node, "pads", np.asarray(attribute(node, "pads"), np.int64))
    _inputs(graph, node, (pads, _initializer(graph, node, "value", np.float32(attribute(node, "value", 0.0)))))
    node.attributes.pop("pads", None)
    node.attributes.pop("value", None)


def _single_output(*dropped: str) -> Callable[[ir.Graph, ir.Node], None]:
    """Forgets training outputs, which nothing reads, and attributes that no longer exist."""
    def change(_: ir.Graph, node: ir.Node) -> None:
        node.resize_outputs(1)
        for name in dropped:
            node.attributes.pop(name, None)
    return change


def _unread_training_outputs(node: ir.Node) -> bool:
    read = any(v.consumers() or v.is_graph_output() for v in node.outputs[1:])
    return not read and attribute(node, "spatial", 1) == 1


def _softmax(_: ir.Graph, node: ir.Node) -> None:
    node.attributes["axis"] = ir.AttrInt64("axis", attribute(node, "axis", 1))


def _last_axis(node: ir.Node) -> bool:
    """Softmax used to flatten all axes from `axis` on; the same as over one axis when it is the last one."""
    data_rank, axis = rank(node.inputs[0]), attribute(node, "axis", 1)
    return data_rank is not None and axis in (data_rank - 1, -1)


def _top_k(graph: ir.Graph, node: ir.Node) -> None:
    _inputs(graph, node, (_initializer(graph, node, "k", np.array([attribute(node, "k")], np.int64)),))
    node.attributes.pop("k", None)


TABLE: Mapping[str, tuple[int, Callable[[ir.Graph, ir.Node], None]]] = {
    "Clip": (11, _as_inputs("min", "max", dtype=np.float32)),
    "Pad": (11, _pad),
    "Squeeze": (13, _as_inputs("axes")),
    "Unsqueeze": (13, _as_inputs("axes")),
    "ReduceSum": (13, _as_inputs("axes")),
    "Slice": (10, _as_inputs("starts", "ends", "axes")),
    "Split": (13, _as_inputs("split")),
    "TopK": (10, _top_k),
    "Dropout": (13, _single_output("ratio", "seed")),
    "BatchNormalization": (14, _single_output("spatial")),
    "Softmax": (13, _softmax),
    "LogSoftmax": (13, _softmax),
    "Hardmax": (13, _softmax),
}

EXACT_IF: Mapping[str, Callable[[ir.Node], bool]] = {
    "Dropout": _unread_training_outputs, "BatchNormalization": _unread_training_outputs,
    "Softmax": _last_axis, "LogSoftmax": _last_axis, "Hardmax": _last_axis,
}

#: Operators whose meaning or signature changed otherwise, and when.
CONVERTED: Mapping[str, int] = {"Upsample": 10, "Resize": 11, "Scan": 9, "Scatter": 11, "RoiAlign": 16}
