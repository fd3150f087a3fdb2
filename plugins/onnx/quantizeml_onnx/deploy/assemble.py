"""A quantized model, block by block, in its deployment form; float nodes stay as they are.

A block without a byte form keeps its exact body (`quantizeml_onnx.functions`) between two conversions, written out as plain operators.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, inliner

from quantizeml_core.blocks import Block
from quantizeml_core.names import Names

from .. import readback
from ..quantized import DEQUANTIZER, dequantized, is_block
from .forms import FORMS
from .graph import MIDDLE, Graph, zero_points

MICROSOFT = helper.make_opsetid("com.microsoft", 1)


def deployed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The deployment form of a quantized ONNX model."""
    program = readback.program(model)
    assert program is not None, "a quantized model"
    names = {real: integer for integer, real in dequantized(model).items()}
    taken = {t for n in model.graph.node for t in (n.name, *n.input, *n.output)} | {t.name for t in model.graph.initializer}
    g = Graph(program, {t: names.get(t, t) for t in (*program.shapes, *program.formats)}, zero_points(program), Names(taken))
    blocks = {b.name: b for b in program.blocks}
    for node in model.graph.node:
        if is_block(node):
            _block(g, blocks[node.name], node)
        elif node.op_type.startswith(DEQUANTIZER) and node.domain:
            _dequantize(g, node, {t: real for t, real in zip(node.input[::2], node.output, strict=True)})
        else:
            g.nodes.append(node)
    return _assembled(model, g)


def _block(g: Graph, block: Block, node: onnx.NodeProto) -> None:
    form = FORMS.get(block.kind)
    if form is None or not form(g, block):
        _called(g, block, node)


def _called(g: Graph, block: Block, node: onnx.NodeProto) -> None:
    """The exact body, on int8."""
    call = onnx.NodeProto()
    call.CopyFrom(node)
    data = {g.names[t]: t for t in block.inputs if t in g.zeros}
    for i, name in enumerate(call.input):
        if name in data and g.program.formats[data[name]].dtype == np.int8:
            call.input[i] = _signed(g, data[name])
    g.nodes.append(call)
    if block.output in g.zeros:
        call.output[0] = g.free(f"{node.output[0]}/int8")
        _unsigned(g, call.output[0], block.output)


def _signed(g: Graph, tensor: str) -> str:
    x = g.names[tensor] if not g.zeros[tensor] else g.node("Sub", g.names[tensor], g.scalar(MIDDLE, np.uint8))
    return g.node("Cast", x, to=onnx.TensorProto.INT8)


def _unsigned(g: Graph, integers: str, tensor: str) -> None:
    zero = g.zeros[tensor]
    cast = g.node("Cast", integers, output="" if zero else g.names[tensor], to=onnx.TensorProto.UINT8)
    if zero:
        g.node("Add", cast, g.scalar(MIDDLE, np.uint8), output=g.names[tensor])


def _dequantize(g: Graph, node: onnx.NodeProto, ends: dict[str, str]) -> None:
    for integer, real in ends.items():
        fmt = g.program.formats[real]
        if real in g.sums:
            g.sums[real](fmt.step, real)
            continue
        if real not in g.zeros and fmt.step.size == 1:  # see `functions.dequantizer`
            g.node("Mul", g.node("Cast", integer, to=onnx.TensorProto.FLOAT), g.constant(f"{real}/scale", fmt.step.astype(np.float32)), output=real)
            continue
        scale = g.constant(f"{real}/scale", fmt.step.astype(np.float32) if fmt.step.size > 1 else fmt.step.astype(np.float32).reshape(()))
        zero = [g.constant(f"{real}/zero", np.full(fmt.step.shape if fmt.step.size > 1 else (), g.zeros[real], np.uint8))] if real in g.zeros else []
        axis = {"axis": 1} if fmt.step.size > 1 else {}
        g.node("DequantizeLinear", integer, scale, *zero, output=real, **axis)


def _assembled(model: onnx.ModelProto, g: Graph) -> onnx.ModelProto:
    constants = [*model.graph.initializer, *g.constants.values()]
    graph = helper.make_graph(g.nodes, model.graph.name, list(model.graph.input), list(model.graph.output), constants)
    called = {(n.domain, n.op_type) for n in g.nodes}
    functions = [f for f in model.functions if (f.domain, f.name) in called]
    imports = [o for o in model.opset_import if o.domain in {n.domain for n in g.nodes} | {""}]
    imports += [MICROSOFT] if any(n.domain == MICROSOFT.domain for n in g.nodes) and all(o.domain != MICROSOFT.domain for o in imports) else []
    made = helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=model.ir_version, producer_name=model.producer_name)
    written = inliner.inline_local_functions(made) if functions else made
    used = {t for n in written.graph.node for t in _reads(n)} | {o.name for o in written.graph.output}
    kept = [t for t in written.graph.initializer if t.name in used]
    del written.graph.initializer[:]
    written.graph.initializer.extend(kept)
    return written


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for n in inner.node:
                yield from _reads(n)
