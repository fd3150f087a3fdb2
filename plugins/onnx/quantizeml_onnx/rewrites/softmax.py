"""A softmax of the rows of a matrix, as conversion from an opset below 13 writes that of a last axis, is the softmax of that axis.

    Reshape(Softmax(Flatten(x; last axis)); shape of x) = Softmax(x; last axis)
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import attribute, dims, private, producer
from .model import Op, Proposal, Rewrite


def rewrite(node: ir.Node) -> Proposal | None:
    """The softmax of what was flattened."""
    inner = producer(node.inputs[0], "Softmax")
    rows = None if inner is None or not private(inner.outputs[0]) else producer(inner.inputs[0], "Flatten", "Reshape")
    shape = None if rows is None else dims(rows.inputs[0])
    if shape is None or dims(node.outputs[0]) != shape or (dims(rows.outputs[0]) or ())[1:] != shape[-1:] or attribute(inner, "axis", -1) not in (-1, 1):
        return None
    made = Op("Softmax", (rows.inputs[0],), {"axis": -1}, name=inner.name or "")
    return Proposal((rows, inner, node) if private(rows.outputs[0]) else (inner, node), made, () if private(rows.outputs[0]) else (rows,), extent="true")


REWRITE = Rewrite("softmax_of_rows", rewrite, ("Reshape",))
