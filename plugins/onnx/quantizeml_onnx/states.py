"""What a streaming network remembers, as inputs and outputs of the ONNX graph: plain onnxruntime runs it frame by frame.

    <block>_state, int8 (N, C, frames - 1, H, W)     ->     <block>_state_next          of a `buffer`
    <block>_state, int32 (N, C, 2, ...)              ->     <block>_state_next          of a `recurrent`

Before the first frame of a sequence a state is zeros; what one run gives as `<block>_state_next` is what the next
one takes as `<block>_state`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper

from quantizeml_core.blocks import Block
from quantizeml_core.memory import MEMORIES
from quantizeml_core.program import Program

from .contract import BASES, OWN
from .frames import NAME

NODES = (NAME, *(BASES[kind] for kind in MEMORIES))
"""How the names of operations with a memory begin: the float one (`frames`), and the integer ones."""


def names(block: str) -> tuple[str, str]:
    """The graph input and the graph output of a block's state."""
    return f"{block}_state", f"{block}_state_next"


def infos(program: Program) -> tuple[tuple[onnx.ValueInfoProto, ...], tuple[onnx.ValueInfoProto, ...]]:
    """Graph inputs and graph outputs of all states of a program."""
    pairs = [[helper.make_tensor_value_info(n, _type(b), ["N", *program.state_shape(b)]) for n in names(b.name)] for b in program.remembering()]
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def _type(block: Block) -> int:
    return helper.np_dtype_to_tensor_dtype(MEMORIES[block.kind].dtype)


def inputs(model: onnx.ModelProto) -> frozenset[str]:
    """The graph inputs that are states; empty for a network without memory."""
    return frozenset(n.input[1] for n in _nodes(model))


def initial(model: onnx.ModelProto, batch: int = 1) -> dict[str, np.ndarray]:
    """The states before the first frame of `batch` sequences, by graph input."""
    wanted = inputs(model)
    types = {i.name: i.type.tensor_type for i in model.graph.input if i.name in wanted}
    return {name: np.zeros((batch, *(d.dim_value for d in t.shape.dim[1:])), helper.tensor_dtype_to_np_dtype(t.elem_type)) for name, t in types.items()}


def following(model: onnx.ModelProto, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The states for the next frame, by graph input, from the graph outputs of this one."""
    return {n.input[1]: outputs[n.output[1]] for n in _nodes(model)}


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (n for n in model.graph.node if n.domain == OWN and n.op_type.startswith(NODES))
