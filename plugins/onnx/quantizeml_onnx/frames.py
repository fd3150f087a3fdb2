"""Frames kept from call to call in a float ONNX graph: a function with its state as an input and an output of the graph.

    window, next = quantizeml.FrameBuffer(x, state)          x (N, C, H, W), state (N, C, frames - 1, H, W)

window (N, C frames, H, W) holds channel c of the frame frames - 1 - t calls ago as channel c frames + t; next is the state for the next frame. Before the first
frame of a sequence a state is zeros. A sanitized model and a quantized one hold the same thing as a `buffer`.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir
from onnx import parser

DOMAIN = "quantizeml"
NAME = "FrameBuffer"
BODY = f"""<domain: "{DOMAIN}", opset_import: ["" : 17]> {NAME} (x, state) => (window, next) {{
    axis = Constant <value_ints = [2]> ()
    frame = Unsqueeze (x, axis)
    all = Concat <axis = 2> (state, frame)
    size = Shape <start = 2> (x)
    head = Constant <value_ints = [0, -1]> ()
    shape = Concat <axis = 0> (head, size)
    window = Reshape (all, shape)
    one = Constant <value_ints = [1]> ()
    end = Constant <value_ints = [2147483647]> ()
    next = Slice (all, one, end, axis)
}}"""


def function(opset: int) -> onnx.FunctionProto:
    """The definition, in an opset of the default domain."""
    return parser.parse_function(BODY.replace('"" : 17', f'"" : {opset}'))


def is_buffer(node: ir.Node | onnx.NodeProto) -> bool:
    return node.domain == DOMAIN and node.op_type == NAME


def is_buffer_function(function: ir.Function) -> bool:
    """The one function that stays a function: what it computes is one block."""
    return (function.domain, function.name) == (DOMAIN, NAME)


def kept(nodes: Iterable[ir.Node]) -> dict[str, str]:
    """By the graph input that holds a state, the graph output that holds the next one."""
    return {node.inputs[1].name: node.outputs[1].name for node in nodes if is_buffer(node)}
