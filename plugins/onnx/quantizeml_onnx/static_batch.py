"""A static export runs with any batch: the axis that holds the batch is followed through the graph, and constants that name its size give way.

    Reshape to a constant     the axis that holds the batch becomes -1, an axis of its own or the slowest part of one (N heads, N tokens)
    Expand to a constant      that axis becomes 1, which broadcasts
    Gather of everything      a Reshape, which it is
    Concat with a constant    the constant is spread over the batch, as exporters of open batches spread a class token

A graph that does something else with its batch stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
import onnx_ir as ir

from .rewrites.graph import Dims, attribute, dims, ints, is_constant, stored

@dataclass(frozen=True)
class Place:
    """The axis that holds the batch: alone, as the slowest part of it, or, `fast`, as the fastest."""

    axis: int
    fast: bool = False


def free_batch(graph: ir.Graph) -> None:
    """Changes a graph whose static shapes are all known; the batch of every input of rank 2 and more is its axis 0."""
    places = {v: Place(0) for v in graph.inputs if len(v.shape) > 1}
    for node in tuple(graph):
        node = _reshape_of(graph, node) or node
        source = next((v for v in node.inputs if v in places), None)
        before, after = dims(source), dims(node.outputs[0])
        if source is None or not before or after is None or None in (*before, *after):
            continue
        place = FOLLOW.get(node.op_type, _aligned)(node, places[source], before, after)
        if place is not None and 0 <= place.axis < len(after):
            places.update(dict.fromkeys(node.outputs, place))
            FREE.get(node.op_type, _nothing)(graph, node, (places[source].axis, place.axis), after)


def _reshape_of(graph: ir.Graph, node: ir.Node) -> ir.Node | None:
    """A Gather of all numbers of a vector, in order, is a Reshape: how torch exports a tensor that is strided as it is."""
    index, shape = stored(node.inputs[1]) if node.op_type == "Gather" else None, dims(node.inputs[0])
    if index is None or shape is None or shape != (index.size,) or not np.array_equal(index.reshape(-1), np.arange(index.size)):
        return None
    target = _initializer(graph, f"{node.outputs[0].name}/sizes", np.array(index.shape))
    made = ir.Node("", "Reshape", [node.inputs[0], target], name=node.name)
    made.outputs[0].name, made.outputs[0].shape, made.outputs[0].type = node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type
    graph.insert_before(node, made)
    node.outputs[0].replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return made


# ---- where the batch goes: (node, its place before, shapes) -> its place behind, None when it is lost

def _aligned(node: ir.Node, place: Place, before: Dims, after: Dims) -> Place | None:
    """Broadcasting counts axes from the last one."""
    return replace(place, axis=place.axis + len(after) - len(before))


def _transposed(node: ir.Node, place: Place, before: Dims, after: Dims) -> Place | None:
    perm = attribute(node, "perm", tuple(reversed(range(len(before)))))
    return replace(place, axis=list(perm).index(place.axis))


def _regrouped(node: ir.Node, place: Place, before: Dims, after: Dims) -> Place | None:
    """The first axis with as many numbers in front of it. The last axis holds channels: what would start there ends the one before."""
    front = math.prod(before[: place.axis + place.fast])
    axis = next((i for i in range(len(after)) if math.prod(after[:i]) == front), None)
    if axis is None:
        return None
    return Place(axis - 1, True) if 0 < axis == len(after) - 1 and after[axis] > 1 else Place(axis)


def _removed(node: ir.Node, place: Place, before: Dims, after: Dims) -> Place | None:
    """One token taken out, or a mean: axes go. Those that stay with size 1 count as they did."""
    if len(after) == len(before):
        return place
    found = (attribute(node, "axis", 0),) if node.op_type == "Gather" else ints(node, "axes", 1) or ()
    gone = {a % len(before) for a in found}
    lost = place.axis in gone or len(before) - len(gone) != len(after)
    return None if lost else replace(place, axis=place.axis - sum(a < place.axis for a in gone))


def _lost(node: ir.Node, place: Place, before: Dims, after: Dims) -> Place | None:
    return None


FOLLOW: Mapping[str, Callable[[ir.Node, Place, Dims, Dims], Place | None]] = {
    "Transpose": _transposed, "Shape": _lost, **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _regrouped),
    **dict.fromkeys(("Gather", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"), _removed),
}


# ---- constants that name its size: (graph, node, its axis before and behind, static shape behind)

def _nothing(graph: ir.Graph, node: ir.Node, axes: tuple[int, int], after: Dims) -> None:
    """No constant of the operation names a batch."""


def _reshape(graph: ir.Graph, node: ir.Node, axes: tuple[int, int], after: Dims) -> None:
    target = stored(node.inputs[1])
    if target is None or target.reshape(-1)[axes[1]] in (-1, 0) and not attribute(node, "allowzero", 0):
        return
    node.attributes.pop("allowzero", None)
    open_size = 0 if axes == (0, 0) and dims(node.inputs[0])[0] == after[0] else -1
    _constant(graph, node, 1, np.array([open_size if i == axes[1] else size for i, size in enumerate(after)]))


def _expand(graph: ir.Graph, node: ir.Node, axes: tuple[int, int], after: Dims) -> None:
    target = stored(node.inputs[1])
    if target is not None and len(target) == len(after):
        _constant(graph, node, 1, np.where(np.arange(len(after)) == axes[1], 1, target))


def _concat(graph: ir.Graph, node: ir.Node, axes: tuple[int, int], after: Dims) -> None:
    data = next(v for v in node.inputs if not is_constant(v))
    for index, value in enumerate(node.inputs):
        if is_constant(value) and attribute(node, "axis", 0) % len(after) != axes[1] == 0:
            _spread(graph, node, index, data)


def _spread(graph: ir.Graph, node: ir.Node, index: int, data: ir.Value) -> None:
    """Expand(constant, Concat(Shape(data)[0], rest of its shape))."""
    value, name = node.inputs[index], f"{node.outputs[0].name}/{index}"
    shape = ir.Node("", "Shape", [data], name=f"{name}/shape")
    batch = ir.Node("", "Gather", [shape.outputs[0], _initializer(graph, f"{name}/first", np.array([0]))], [ir.AttrInt64("axis", 0)], name=f"{name}/batch")
    rest = _initializer(graph, f"{name}/rest", np.array(dims(value)[1:]))
    whole = ir.Node("", "Concat", [batch.outputs[0], rest], [ir.AttrInt64("axis", 0)], name=f"{name}/sizes")
    spread = ir.Node("", "Expand", [value, whole.outputs[0]], name=f"{name}/spread")
    for made in (shape, batch, whole, spread):
        made.outputs[0].name = made.name
        graph.insert_before(node, made)
    node.replace_input_with(index, spread.outputs[0])


def _constant(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray) -> None:
    node.replace_input_with(index, _initializer(graph, f"{node.outputs[0].name}/shape", array))


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new constant. Its name may be one that the exporter took."""
    name = next(n for n in chain((name,), (f"{name}_{i}" for i in count(1))) if n not in graph.initializers)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.INT64))
    value.const_value = ir.tensor(array.astype(np.int64), name=name)
    graph.register_initializer(value)
    return value


FREE: Mapping[str, Callable[[ir.Graph, ir.Node, tuple[int, int], Dims], None]] = {"Reshape": _reshape, "Expand": _expand, "Concat": _concat}
