"""What a streaming network remembers, as inputs and outputs of the ONNX graph: plain onnxruntime runs it frame by frame.

    <block>_state, int8 (N, C, frames - 1, H, W)     ->     <block>_state_next

for each `buffer` block. Before the first frame of a sequence a state is zeros; what one run gives as `<block>_state_next` is what the next
one takes as `<block>_state`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper

from quantizeml_core.blocks import Block
from quantizeml_core.program import Program

from .contract import BASES, OWN

NODE = BASES["buffer"]


def names(block: str) -> tuple[str, str]:
    """The graph input and the graph output of a block's state."""
    return f"{block}_state", f"{block}_state_next"


def infos(program: Program) -> tuple[tuple[onnx.ValueInfoProto, ...], tuple[onnx.ValueInfoProto, ...]]:
    """Graph inputs and graph outputs of all states of a program."""
    pairs = [[helper.make_tensor_value_info(n, onnx.TensorProto.INT8, _shape(program, b)) for n in names(b.name)]
             for b in program.blocks if b.kind == "buffer"]
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def _shape(program: Program, block: Block) -> list[int | str | None]:
    channels, *size = program.shapes[block.inputs[0]][1:]
    return ["N", channels, block.frames - 1, *size]


def inputs(model: onnx.ModelProto) -> frozenset[str]:
    """The graph inputs that are states; empty for a network without memory."""
    return frozenset(n.input[1] for n in _nodes(model))


def initial(model: onnx.ModelProto, batch: int = 1) -> dict[str, np.ndarray]:
    """The states before the first frame of `batch` sequences, by graph input."""
    wanted = inputs(model)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim][1:] for i in model.graph.input if i.name in wanted}
    return {name: np.zeros((batch, *shape), np.int8) for name, shape in shapes.items()}


def following(model: onnx.ModelProto, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The states for the next frame, by graph input, from the graph outputs of this one."""
    return {n.input[1]: outputs[n.output[1]] for n in _nodes(model)}


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (n for n in model.graph.node if n.domain == OWN and n.op_type == NODE)
