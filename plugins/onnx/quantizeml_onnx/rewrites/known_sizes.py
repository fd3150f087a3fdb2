"""Sizes that a graph asks its tensors for, and that are known, are constants.

    Gather(Shape(x), i) = c          Slice(Shape(x), i, j) = c          the batch is not among them
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .evaluate import evaluate, trace
from .graph import attribute, attributes, constant, dims, is_constant, producer
from .model import Proposal, Refusal, Rewrite

OPEN = -1
"""Stands for a size that is not known."""


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The sizes themselves."""
    shape = producer(node.inputs[0], "Shape")
    known = None if shape is None else dims(shape.inputs[0])
    if known is None or not all(v is None or is_constant(v) for v in node.inputs[1:]):
        return None
    sizes = np.array([OPEN if d is None else d for d in known])[attribute(shape, "start", 0) : attribute(shape, "end", None)]
    given = [trace(sizes), *(None if v is None else trace(constant(v)) for v in node.inputs[1:])]
    found = evaluate(node.op_type, given, attributes(node)).array
    return None if (found == OPEN).any() else Proposal((node,), found.astype(np.int64), (shape,), "true")


REWRITE = Rewrite("known_sizes", rewrite, ("Gather", "Slice"))
