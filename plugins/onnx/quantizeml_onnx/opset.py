"""Old spellings made new: operators whose attributes became inputs, or whose defaults changed, between opset 7 and opset 17.

    Clip min, max (11) . Pad pads, value (11) . Squeeze, Unsqueeze, ReduceSum axes (13) . Slice (10) . Dropout ratio, mask (12)
    BatchNormalization spatial, training outputs (9, 14) . Softmax default axis 1 (13)

Each respelling is exact. Operators outside this table keep their spelling: they stay float and are taken from the original model.
Newer opsets are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .rewrites.graph import attribute, rank

OLDEST = 7
NEWEST_SPELLING = 17


def respell(model: ir.Model) -> None:
    """Brings a model, shapes inferred, to opset 17 unless it is newer."""
    graph = model.graph
    version = graph.opset_imports.pop("ai.onnx", None) or graph.opset_imports[""]
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
    full = f"{node.outputs[0].name}/{name}"
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
    """Forgets training outputs that nothing reads, and attributes that no longer exist."""
    def change(_: ir.Graph, node: ir.Node) -> None:
        if not any(v.consumers() or v.is_graph_output() for v in node.outputs[1:]):
            node.resize_outputs(1)
        for name in dropped:
            node.attributes.pop(name, None)
    return change


def _softmax(_: ir.Graph, node: ir.Node) -> None:
    """Softmax over the flattened axes from `axis` on; the same as over one axis when it is the last one."""
    axis = attribute(node, "axis", 1)
    if rank(node.inputs[0]) in (axis + 1, None):
        node.attributes["axis"] = ir.AttrInt64("axis", axis)


TABLE: Mapping[str, tuple[int, Callable[[ir.Graph, ir.Node], None]]] = {
    "Clip": (11, _as_inputs("min", "max", dtype=np.float32)),
    "Pad": (11, _pad),
    "Squeeze": (13, _as_inputs("axes")),
    "Unsqueeze": (13, _as_inputs("axes")),
    "ReduceSum": (13, _as_inputs("axes")),
    "Slice": (10, _as_inputs("starts", "ends", "axes")),
    "Dropout": (13, _single_output("ratio", "seed")),
    "BatchNormalization": (14, _single_output("spatial")),
    "Softmax": (13, _softmax),
    "LogSoftmax": (13, _softmax),
}
