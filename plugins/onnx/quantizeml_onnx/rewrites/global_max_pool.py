"""Maxima over all of height and width are a MaxPool whose window is the image, followed by Flatten when the reduced axes vanish.

    GlobalMaxPool(x) = ReduceMax(x; axes 2, 3) = MaxPool(x; kernel (H, W))
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import attribute, dims, ints
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """MaxPool, and Flatten when keepdims is 0."""
    shape, x = dims(node.inputs[0]), node.inputs[0]
    if shape is None or len(shape) != 4 or None in shape[2:]:
        return Refusal("it is no maximum over an image of known size")
    if node.op_type == "ReduceMax" and (axes := sorted(a % 4 for a in ints(node, "axes", 1) or ())) != [2, 3]:
        return Refusal(f"it is the maximum over axes {tuple(axes)}, only height and width together can be quantized")
    pooled = Op("MaxPool", (x,), {"kernel_shape": shape[2:], "strides": (1, 1), "pads": (0, 0, 0, 0)}, shape=(*shape[:2], 1, 1))
    return Proposal((node,), pooled if attribute(node, "keepdims", 1) else Op("Flatten", (pooled,), {"axis": 1}, shape=shape[:2]), extent="true")


REWRITE = Rewrite("global_max_pool_to_max_pool", rewrite, ("GlobalMaxPool", "ReduceMax"))
