"""Reshape, Squeeze, Unsqueeze and Flatten that keep the batch and join all other axes are Flatten(axis=1); those that change nothing go.

    (N, d1, ..., dk) -> (N, d1 * ... * dk)
"""

from __future__ import annotations

import math

import onnx_ir as ir

from .graph import attribute, dims, private, producer
from .model import Op, Proposal, Refusal, Rewrite

SPELLINGS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Flatten of the first tensor of a chain of reshapes, or that tensor itself."""
    chain = _chain(node)
    root, after = chain[0].inputs[0], dims(node.outputs[0])
    before = dims(root)
    if before is None or after is None or None in before[1:]:
        return None
    if before == after:
        return Proposal(chain, root, extent="true")
    joins = len(after) == 2 and after[0] in (before[0], None) and after[1] in (math.prod(before[1:]), None)
    normal = len(chain) == 1 and node.op_type == "Flatten" and attribute(node, "axis", 1) == 1
    if normal or not joins or len(before) < 2:
        return None
    return Proposal(chain, Op("Flatten", (root,), {"axis": 1}, shape=(before[0], math.prod(before[1:]))), extent="true")


def _chain(node: ir.Node) -> tuple[ir.Node, ...]:
    """The node and the reshapes before it that nothing else reads."""
    chain = (node,)
    while (before := producer(chain[0].inputs[0], *SPELLINGS)) is not None and private(before.outputs[0]):
        chain = (before, *chain)
    return chain


REWRITE = Rewrite("reshape_to_flatten", rewrite, SPELLINGS)
