"""Sum of several tensors of one shape is a chain of Adds; a tensor and itself are a product.

    Sum(a, b, c) = Add(Add(a, b), c)     Add(x, x) = 2 x
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import onnx_ir as ir

from .graph import dims, is_constant
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


def twice(node: ir.Node) -> Proposal | None:
    """The product with two."""
    x, y = node.inputs
    return Proposal((node,), Op("Mul", (x, np.asarray(2.0)), shape=dims(x))) if x is y and not is_constant(x) else None


TWICE = Rewrite("add_to_itself", twice, ("Add",))
REWRITE = Rewrite("sum_to_add", rewrite, ("Sum",))
