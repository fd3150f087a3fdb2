"""An ONNX graph as the matcher sees it, and what the ONNX rules may ask beyond that: constants, shapes, attributes.

Operations of the standard domain and of domain `quantizeml` (Swish and other functions recognised by the rewrites) go by their plain
name, all others as `domain::Op`. Constants are initializers and outputs of Constant nodes. Tensors that a subgraph captures count as inputs
of the node that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from quantizeml_core.blueprint import Shape
from quantizeml_core.match import Node

from .frames import kept

PLAIN_DOMAINS = frozenset({"", "ai.onnx", "quantizeml"})


class OnnxView:
    """A read-only picture of a graph, taken once. Implements `quantizeml_core.match.GraphView`."""

    def __init__(self, model: ir.Model):
        self._model, graph = model, model.graph
        self._values = {v.name: v for v in _values(graph) if v.name}
        self._constants = {name: tensor for name, v in self._values.items() if (tensor := get_const_tensor(v)) is not None}
        self._states = kept(graph)
        self._inputs = tuple(v.name for v in graph.inputs if v.name not in self._constants and v.name not in self._states)
        self._outputs = tuple(v.name for v in graph.outputs if v.name and v.name not in self._states.values())
        self._nodes = self._read(graph)
        self._consumers: dict[str, tuple[Node, ...]] = {}
        for node in self._nodes:
            for tensor in dict.fromkeys(node.inputs):
                self._consumers[tensor] = (*self._consumers.get(tensor, ()), node)

    def inputs(self) -> tuple[str, ...]:
        return self._inputs

    def outputs(self) -> tuple[str, ...]:
        return self._outputs

    def nodes(self) -> tuple[Node, ...]:
        return self._nodes

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        return self._consumers.get(tensor, ())

    def tensors(self) -> tuple[str, ...]:
        """Names of every tensor that is no constant, in topological order."""
        return self._inputs + tuple(t for n in self._nodes for t in n.outputs)

    @cached_property
    def proto(self) -> onnx.GraphProto:
        """The whole graph, weights included, for callbacks that read it so."""
        return ir.to_proto(self._model).graph

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a constant, None for a tensor that is computed (or for an absent optional input, whose name is empty)."""
        tensor = self._constants.get(name)
        return None if tensor is None else tensor.numpy()

    def shape(self, name: str) -> Shape | None:
        """Native shape with None for every dimension that is not a known number; None when even the rank is unknown."""
        shape = self._values[name].shape
        return None if shape is None else tuple(d if isinstance(d, int) else None for d in shape.dims)

    def dtype(self, name: str) -> ir.DataType | None:
        return self._values[name].dtype

    def _read(self, graph: ir.Graph) -> tuple[Node, ...]:
        nodes: dict[str, Node] = {}
        for native in graph:
            outputs = tuple(v.name for v in native.outputs if v.name and v.name not in self._states.values())
            if native.op_type == "Constant" or not outputs:
                continue
            inputs = tuple(v.name for v in (*native.inputs, *_captured(native)) if v is not None and v.name in self._values)
            name = _unique(native.name or outputs[0], outputs[0], nodes)
            nodes[name] = Node(name, _op(native), tuple(t for t in inputs if t not in self._constants and t not in self._states), outputs, native)
        return tuple(nodes.values())


def operands(node: Node) -> tuple[str, ...]:
    """Names of all inputs of a node in the order of its ONNX signature, constants included; empty for an absent optional one."""
    return tuple("" if v is None else v.name or "" for v in node.native.inputs)


def operand(view: OnnxView, node: Node, index: int) -> np.ndarray | None:
    """The constant at an input position, None when it is absent or computed."""
    names = operands(node)
    return view.constant(names[index]) if index < len(names) else None


def present(node: Node, index: int) -> bool:
    """Whether an optional input is given."""
    names = operands(node)
    return index < len(names) and bool(names[index])


def ints(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(node.native.attributes.get_ints(name, default))


def _op(native: ir.Node) -> str:
    return native.op_type if native.domain in PLAIN_DOMAINS else f"{native.domain}::{native.op_type}"


def _unique(name: str, output: str, taken: dict[str, Node]) -> str:
    """Node names may repeat in a file; tensors may not. A repeated name gives way to the node's first output."""
    return next(n for n in (name, output, *(f"{output}_{i}" for i in range(len(taken) + 1))) if n not in taken)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _captured(native: ir.Node) -> Iterator[ir.Value]:
    """The values that the subgraphs of a node read (their own ones included: the caller keeps those it knows)."""
    for attribute in native.attributes.values():
        graphs = {ir.AttributeType.GRAPH: lambda a: (a.as_graph(),), ir.AttributeType.GRAPHS: lambda a: a.as_graphs()}
        for graph in graphs.get(attribute.type, lambda a: ())(attribute):
            yield from (v for node in graph.all_nodes() for v in node.inputs if v is not None)
            yield from graph.outputs
