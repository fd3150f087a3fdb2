"""Sum of several tensors of one shape is a chain of Adds.

    Sum(a, b, c) = Add(Add(a, b), c)
"""

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from .graph import dims
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Adds from left to right."""
    if len(node.inputs) < 2:
        return None
    shapes = {dims(v) for v in node.inputs}
    if len(shapes) != 1 or None in shapes:
        return Refusal("its operands have different or unknown shapes")
    (shape,) = shapes
    return Proposal((node,), reduce(lambda a, b: Op("Add", (a, b), shape=shape), node.inputs))


REWRITE = Rewrite("sum_to_add", rewrite, ("Sum",))
