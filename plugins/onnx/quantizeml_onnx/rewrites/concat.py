"""A concatenation of several tensors is a chain of concatenations of two.

    Concat(a, b, c) = Concat(Concat(a, b), c)
"""

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from .graph import dims, is_constant
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Pairs from left to right, on images along the channels."""
    shapes = [dims(v) for v in node.inputs]
    if len(node.inputs) < 3 or node.attributes.get_int("axis", 1) != 1 or any(is_constant(v) for v in node.inputs):
        return None
    if any(s is None or len(s) != 4 or s[1] is None for s in shapes):
        return Refusal("its operands are no images of a known number of channels")

    def pair(left: Op | ir.Value, right: ir.Value) -> Op:
        before = left.shape if isinstance(left, Op) else dims(left)
        return Op("Concat", (left, right), {"axis": 1}, shape=(before[0], before[1] + dims(right)[1], *before[2:]))

    return Proposal((node,), reduce(pair, node.inputs))


REWRITE = Rewrite("concat_in_pairs", rewrite, ("Concat",))
