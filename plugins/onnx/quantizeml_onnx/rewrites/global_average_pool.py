"""Means over all of height and width are GlobalAveragePool, followed by Flatten when the reduced axes vanish.

    ReduceMean(x; axes 2, 3) = GlobalAveragePool(x)        AveragePool(x; kernel (H, W)) = GlobalAveragePool(x)

Channel-last networks reduce axes 1, 2 of a transposed tensor; without the reduced axes the transposition changes nothing and goes as well.
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import Dims, attribute, dims, ints, producer
from .model import Op, Proposal, Refusal, Rewrite


def reduce_mean(node: ir.Node) -> Proposal | Refusal | None:
    """GlobalAveragePool, and Flatten when keepdims is 0."""
    shape, axes = dims(node.inputs[0]), ints(node, "axes", 1)
    if shape is None or len(shape) != 4 or not axes:
        return Refusal("it is no mean over known axes of a 4-D tensor")
    axes, keep = tuple(sorted(a % 4 for a in axes)), attribute(node, "keepdims", 1)
    if axes == (2, 3):
        return Proposal((node,), _pooled(node.inputs[0], shape, bool(keep)), extent="true")
    before = producer(node.inputs[0], "Transpose")
    if axes == (1, 2) and not keep and before is not None and attribute(before, "perm") == (0, 2, 3, 1):
        return Proposal((before, node), _pooled(before.inputs[0], (shape[0], shape[3], *shape[1:3]), False), extent="true")
    return Refusal(f"it averages axes {axes}, only height and width together can be quantized")


def _pooled(x: ir.Value, shape: Dims, keep: bool) -> Op:
    pooled = Op("GlobalAveragePool", (x,), shape=(*shape[:2], 1, 1))
    return pooled if keep else Op("Flatten", (pooled,), {"axis": 1}, shape=shape[:2])


def average_pool(node: ir.Node) -> Proposal | None:
    """GlobalAveragePool in place of a window as large as the image; smaller ones are blocks of their own."""
    shape, kernel = dims(node.inputs[0]), attribute(node, "kernel_shape")
    if shape is None or len(shape) != 4 or tuple(kernel) != shape[2:] or any(attribute(node, "pads", ())):
        return None
    return Proposal((node,), Op("GlobalAveragePool", (node.inputs[0],)), extent="true")


REDUCE_MEAN = Rewrite("reduce_mean_to_global_average_pool", reduce_mean, ("ReduceMean",))
AVERAGE_POOL = Rewrite("average_pool_to_global_average_pool", average_pool, ("AveragePool",))
