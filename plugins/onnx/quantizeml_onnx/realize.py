"""Realize: the quantized ONNX model. Integer nodes where the graph was covered, the float nodes of the original graph elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
import onnx_ir as ir
from onnx import helper

from quantizeml_core.blocks import Block
from quantizeml_core.errors import ModelError
from quantizeml_core.program import Program

from . import contract, metadata
from .emit import Emitted, emit
from .frames import kept
from .functions import is_series
from .order import order
from .quantized import is_block

#: Opset of a file without float remainder, and the first one that has every operator of the bodies.
OPSET, IR_VERSION = 21, 10


def realize(original: ir.Model, sanitized: ir.Model, program: Program, config: Mapping[str, Any]) -> onnx.ModelProto:
    """The quantized model.

    Arguments:
        original: the graph before any rewrite; its nodes are used for what stays float, wherever its tensor names allow.
        sanitized: the graph that was covered.
        config: stored in the file's metadata, read back by `quantizeml config`.
    """
    remainder = _remainder(original, sanitized, program)
    opset = OPSET if not remainder.nodes else remainder.opset
    emitted = emit(program, opset, remainder.names, {v.name for node in remainder.nodes for v in node.outputs})
    header = _header(original.graph, remainder.nodes)
    return _model(header, emitted, remainder, opset, config)


def from_program(program: Program, config: Mapping[str, Any] | None = None, name: str = "quantized_model") -> onnx.ModelProto:
    """A whole ONNX model from a program alone, whatever frontend it came from. Inputs are float32, named as the program's inputs."""
    if program.resumed:
        raise ModelError(f"a program does not hold the float operations before `{program.resumed[0]}`", where="export",
                         do="Use the quantized ONNX model, or quantize without islands")
    inputs = [(b.inputs[0], _native_shape(program, b)) for b in program.blocks if b.kind == "input"]
    header = onnx.GraphProto(name=name)
    header.input.extend(helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, ["N", *shape[1:]]) for t, shape in inputs)
    header.output.extend(helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, ["N", *program.shapes[t][1:]]) for t in program.outputs)
    return _model(header, emit(program, OPSET), None, OPSET, config or {})


def _native_shape(program: Program, block: Block) -> list[int | None]:
    """The layout a model input has before the input block's transposition."""
    if is_series(program, block):
        return list(program.shapes[block.inputs[0]])
    shape = program.shapes[block.output]
    return [shape[block.perm.index(axis)] for axis in range(len(shape))] if block.perm else list(shape)


def _model(header: onnx.GraphProto, emitted: Emitted, remainder: _Remainder | None, opset: int, config: Mapping[str, Any]) -> onnx.ModelProto:
    model = helper.make_model(
        _graph(header, emitted, remainder), functions=[*emitted.functions, *(remainder.functions if remainder else ())], ir_version=IR_VERSION, producer_name="quantizeml",
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in _imports(remainder, emitted, opset).items()],
    )
    metadata.keep(model, config)
    return model


class _Remainder:
    """Float nodes and initializers that the graph outputs still need."""

    def __init__(self, model: ir.Model, nodes: Iterable[ir.Node]) -> None:
        self.nodes = tuple(nodes)
        self.opset = model.opset_imports.get("", OPSET)
        called = {(node.domain, node.op_type) for node in self.nodes}
        self.functions = [ir.to_proto(f) for key, f in model.functions.items() if key[:2] in called]
        self.imports = dict(model.opset_imports)
        used = {v.name for node in self.nodes for v in _reads(node)}
        self.initializers = [v for name, v in model.graph.initializers.items() if name in used]
        self.names = {name for node in self.nodes for name in (node.name, *(v.name for v in (*_reads(node), *node.outputs))) if name}


def _remainder(original: ir.Model, sanitized: ir.Model, program: Program) -> _Remainder:
    """From the original graph when it knows every tensor that leaves the program or comes back to it and computes no block again, from the sanitized
    one otherwise."""
    names, blocks = {v.name for node in original.graph for v in node.outputs}, {b.name for b in program.blocks}
    nodes = _needed(original, set(program.outputs), set(program.resumed))
    if names.issuperset((*program.outputs, *program.resumed)) and blocks.isdisjoint(n.name for n in nodes):
        return _Remainder(original, nodes)
    return _Remainder(sanitized, _needed(sanitized, set(program.outputs), set(program.resumed)))


def _needed(model: ir.Model, known: set[str], resumed: set[str]) -> list[ir.Node]:
    """The nodes between what is known and the outputs of the graph, or what quantization goes on with."""
    states = set(kept(model.graph).values())
    ends = (*(v for v in model.graph.outputs if v.name not in states), *(v for node in model.graph for v in node.outputs if v.name in resumed))
    wanted = [v for v in ends if v.name not in known]
    keep: set[ir.Node] = set()
    while wanted:
        node = wanted.pop().producer()
        if node is not None and node not in keep:
            keep.add(node)
            wanted += [v for v in _reads(node) if v.name not in known]
    return [node for node in model.graph if node in keep]


def _reads(node: ir.Node) -> list[ir.Value]:
    """Every value a node needs, those captured by its subgraphs included."""
    values = [v for v in node.inputs if v is not None]
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else attribute.value if attribute.type == ir.AttributeType.GRAPHS else []
        for inner in (n for graph in graphs for n in graph):
            values += _reads(inner)
    return values


def _header(graph: ir.Graph, nodes: Iterable[ir.Node]) -> onnx.GraphProto:
    """Name, inputs and outputs of a graph, without the states of what is no float node any more."""
    gone = kept(n for n in graph if n not in set(nodes))
    header = onnx.GraphProto(name=graph.name or "quantized_model", doc_string=graph.doc_string or "")
    header.input.extend(ir.to_proto(v) for v in graph.inputs if v.name not in graph.initializers and v.name not in gone)
    header.output.extend(ir.to_proto(v) for v in graph.outputs if v.name not in gone.values())
    return header


def _graph(header: onnx.GraphProto, emitted: Emitted, remainder: _Remainder | None) -> onnx.GraphProto:
    """Integer nodes first, then the Dequantizer, then what stays float; with islands, each node behind what it reads."""
    graph = onnx.GraphProto()
    graph.CopyFrom(header)
    graph.input.extend(emitted.states[0])
    graph.output.extend(emitted.states[1])
    nodes = [*emitted.nodes, *(() if remainder is None else map(ir.to_proto, remainder.nodes))]
    graph.node.extend(nodes[i] for i in order(nodes, kept=[i for i, node in enumerate(nodes) if is_block(node)]))
    graph.initializer.extend(emitted.initializers)
    graph.value_info.extend(info for info in emitted.value_infos if info.name not in {o.name for o in header.output})
    if remainder is not None:
        graph.initializer.extend(_tensor(value) for value in remainder.initializers)
    return graph


def _tensor(value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    proto = ir.to_proto(value.const_value)
    proto.name = value.name or ""
    return proto


def _imports(remainder: _Remainder | None, emitted: Emitted, opset: int) -> dict[str, int]:
    used = {node.domain for node in emitted.nodes}
    own = {domain: contract.VERSION for domain in (contract.CONVERTIBLE, contract.OWN) if domain in used}
    others = {} if remainder is None else {d: v for d, v in remainder.imports.items() if d and d in {n.domain for n in remainder.nodes}}
    return {"": opset, **others, **own}
