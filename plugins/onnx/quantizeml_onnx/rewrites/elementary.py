"""Elementary operations in the spelling that the other rewrites and the rules know.

    -x = x * -1     x^2 = x * x     x - y = x + y * -1

They come last: normalizations and functions are spelled with them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import dims, is_constant, scalar
from .model import Op, Proposal, Refusal, Rewrite


def negative(node: ir.Node) -> Proposal | None:
    """A product with a constant."""
    x = node.inputs[0]
    if is_constant(x) or x.dtype is None or not x.dtype.is_floating_point():
        return None
    return Proposal((node,), Op("Mul", (x, np.asarray(-1.0)), shape=dims(x)), extent="element")


def power(node: ir.Node) -> Proposal | Refusal | None:
    """A product with itself."""
    x, exponent = node.inputs[0], scalar(node.inputs[1])
    if is_constant(x):
        return None
    if exponent != 2:
        return Refusal("its exponent is computed by the model" if exponent is None else f"its exponent is {exponent:g}, only 2 can be quantized")
    return Proposal((node,), Op("Mul", (x, x), shape=dims(x)), extent="element")


def difference(node: ir.Node) -> Proposal | None:
    """The sum of two images, one of them negative."""
    x, y = node.inputs
    if x is y or is_constant(x) or is_constant(y) or any(len(dims(v) or ()) != 4 for v in (x, y)):
        return None
    return Proposal((node,), Op("Add", (x, Op("Mul", (y, np.asarray(-1.0)), shape=dims(y)))))


NEGATIVE = Rewrite("negative_to_product", negative, ("Neg",), last=True)
DIFFERENCE = Rewrite("difference_to_sum", difference, ("Sub",), last=True)
SQUARE = Rewrite("square_to_product", power, ("Pow",), last=True)
