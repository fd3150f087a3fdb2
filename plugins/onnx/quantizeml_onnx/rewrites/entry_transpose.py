"""A Reshape near a model input that only moves a channel axis of size 1 to the front is a transposition.

    (N, H, W, 1) -> (N, 1, H, W): Transpose(perm = 0, 3, 1, 2)
"""

from __future__ import annotations

import onnx_ir as ir

from .entry import from_input
from .graph import dims
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Transpose to channel-first."""
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if before is None or after is None or len(before) != 4 or len(after) != 4 or not from_input(node.inputs[0]):
        return None
    if before[3] != 1 or after[1:] != (1, *before[1:3]) or before[1:3] == (1, 1):
        return None
    return Proposal((node,), Op("Transpose", (node.inputs[0],), {"perm": (0, 3, 1, 2)}), extent="true")


REWRITE = Rewrite("reshape_to_transpose", rewrite, ("Reshape",))
