"""Nodes that pass their input on: Identity, Dropout at inference, Cast to the same type, Pad by nothing, Sum of one tensor.

    y = x
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import ints, operand, scalar
from .model import Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The input in place of the output."""
    if node.op_type == "Dropout" and operand(node, 2) is not None and scalar(operand(node, 2)) != 0:
        return Refusal("its training_mode is not constantly false")
    if node.op_type == "Cast" and node.inputs[0].dtype != ir.DataType(node.attributes["to"].as_int()):
        return None
    if node.op_type == "Pad" and any(ints(node, "pads", 1) or (1,)) or node.op_type == "Sum" and len(node.inputs) != 1:
        return None
    return Proposal((node,), node.inputs[0], extent="any" if node.op_type == "Pad" else "element")


REWRITE = Rewrite("remove_no_operation", rewrite, ("Identity", "Dropout", "Cast", "Pad", "Sum"))
