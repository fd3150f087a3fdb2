"""A local response normalization sums over channels, which asks for one step of all of them; those of a concatenation have their own: a convolution between gives one.

    LRN(Concat(a, b)) = LRN(Conv(Concat(a, b), 1))        kernel (C, 1, 1, 1) of ones, group C
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import attributes, dims
from .model import Op, Proposal, Rewrite
from .pieces import unpadded

MOVES = ("Gather", "Resize")
"""What keeps the steps of what it reads."""


def rewrite(node: ir.Node) -> Proposal | None:
    """The normalization of the convolution."""
    x, shape = node.inputs[0], dims(node.inputs[0])
    source = x.producer()
    while source is not None and source.op_type in MOVES:
        source = source.inputs[0].producer()
    if source is None or source.op_type != "Concat" or shape is None or len(shape) != 4 or shape[1] is None:
        return None
    between = Op("Conv", (x, np.ones((shape[1], 1, 1, 1))), unpadded(groups=shape[1]), name=f"{node.name}/identity", shape=shape)
    return Proposal((node,), Op("LRN", (between,), attributes(node), name=node.name or ""))


REWRITE = Rewrite("one_step_for_normalization", rewrite, ("LRN",), last=True)
