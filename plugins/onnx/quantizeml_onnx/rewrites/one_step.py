"""Normalizations and attentions sum over channels, which asks for one step of all of them; those of a concatenation have their own: a convolution between gives one.

    LRN(Concat(a, b)) = LRN(Conv(Concat(a, b), 1))        kernel (C, 1, 1, 1) of ones, group C
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import attributes, dims, producer
from .model import Op, Proposal, Rewrite
from .pieces import unpadded

MOVES = ("Gather", "Resize")
"""What keeps the steps of what it reads."""
SUMMED = {"LRN": 1, "LayerNormalization": 1, "Attention": 2, "MaskedAttention": 2}
"""How many of its first inputs an operation sums over their channels."""


def rewrite(node: ir.Node) -> Proposal | None:
    """The operation on what the convolutions give."""
    turned = producer(node.inputs[0], "Transpose")  # a LayerNormalization takes channels last
    read = node.inputs[: SUMMED[node.op_type]] if turned is None else turned.inputs[:1]
    if not any(_has_several_steps(x) for x in read):
        return None
    given = [_in_one_step(x, f"{node.name}/identity{i or ''}") if _has_several_steps(x) else x for i, x in enumerate(read)]
    if turned is not None:
        given = [Op("Transpose", tuple(given), attributes(turned), shape=dims(turned.outputs[0]))]
    made = Op(node.op_type, (*given, *node.inputs[len(given):]), attributes(node), node.domain, name=node.name or "")
    return Proposal((node,), made, () if turned is None else (turned,))


def _has_several_steps(x: ir.Value) -> bool:
    source, shape = x.producer(), dims(x)
    while source is not None and source.op_type in MOVES:
        source = source.inputs[0].producer()
    return source is not None and source.op_type == "Concat" and shape is not None and len(shape) == 4 and shape[1] is not None


def _in_one_step(x: ir.Value, name: str) -> Op:
    shape = dims(x)
    return Op("Conv", (x, np.ones((shape[1], 1, 1, 1))), unpadded(groups=shape[1]), name=name, shape=shape)


REWRITE = Rewrite("one_step_for_sums", rewrite, tuple(SUMMED), last=True)
