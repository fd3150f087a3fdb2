"""Reading an ONNX graph: constants, attributes, shapes, neighbours. Nothing here changes a graph.

Constants that a rewrite computed keep their unrounded float64 values beside the float32 initializer until sanitize ends: a weight into
which several operations are folded is rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

Dims = tuple[int | None, ...]

UNROUNDED = "quantizeml.unrounded"


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer."""
    return value is not None and value.is_initializer() and value.const_value is not None


def stored(value: ir.Value | None) -> np.ndarray | None:
    """A constant as it is kept: float64 when a rewrite computed it, else in the type of the file; None for a computed value."""
    if not is_constant(value):
        return None
    return value.meta[UNROUNDED] if UNROUNDED in value.meta else value.const_value.numpy()


def constant(value: ir.Value | None) -> np.ndarray | None:
    """A constant, floating point as float64; None for a computed or absent value."""
    array = stored(value)
    return array if array is None else exact(array)


def exact(array: np.ndarray) -> np.ndarray:
    """The same numbers in float64; integers and booleans as they are."""
    return array if array.dtype.kind in "iub" else array.astype(np.float64, copy=False)


def scalar(value: ir.Value | None) -> float | None:
    """The only number of a constant, None for anything else."""
    array = stored(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def attributes(node: ir.Node) -> dict[str, Any]:
    """Attributes as Python values."""
    return {name: a.value for name, a in node.attributes.items() if a.type != ir.AttributeType.UNDEFINED}


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, `default` when it is absent."""
    return node.attributes[name].value if name in node.attributes else default


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """An input by its position, None when it is not given."""
    return node.inputs[index] if index < len(node.inputs) else None


def ints(node: ir.Node, name: str, index: int) -> tuple[int, ...] | None:
    """Integers that older opsets spell as an attribute and newer ones as a constant input; None when absent or computed."""
    found = attribute(node, name)
    array = stored(operand(node, index)) if found is None else np.asarray(found)
    return None if array is None else tuple(int(v) for v in array.reshape(-1))


def dims(value: ir.Value | None) -> Dims | None:
    """The shape with None for every dimension that is not a known number; None when even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, None when unknown."""
    shape = dims(value)
    return None if shape is None else len(shape)


def producer(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that writes a value when it is one of these operations."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type in ops else None


def data_input(node: ir.Node) -> ir.Value | None:
    """The only computed input of a node, None when there are several or none."""
    found = [v for v in node.inputs if v is not None and not is_constant(v)]
    return found[0] if len(found) == 1 else None


def private(value: ir.Value) -> bool:
    """Whether exactly one node reads the value and the graph does not return it."""
    return len(value.consumers()) == 1 and not value.is_graph_output()


def title(node: ir.Node) -> str:
    """A node as it is called in messages."""
    return f"`{node.name}` ({node.op_type})"


def per_channel(array: np.ndarray, data_rank: int, channels: int) -> np.ndarray | None:
    """A broadcast constant as one number per channel (axis 1) of data of this rank, (channels,); None when it varies along another axis."""
    if array.ndim > data_rank:
        return None
    shape = (1,) * (data_rank - array.ndim) + array.shape
    if data_rank < 2 or any(d != 1 for i, d in enumerate(shape) if i != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def in_order(nodes: Iterable[ir.Node]) -> tuple[ir.Node, ...]:
    """Nodes of one graph in topological order, each once."""
    wanted = set(nodes)
    return tuple(n for n in next(iter(wanted)).graph if n in wanted) if wanted else ()
