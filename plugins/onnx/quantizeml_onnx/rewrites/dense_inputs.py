"""What stands between a tensor and its dense layer, while others read it too: each layer gets a Flatten of its own, and takes an affine map of its features in.

    Gemm(s x + o, W, b) = Gemm(x, W s, W o + b)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import batch_normalization, linear
from .affine import affine
from .entry import from_input
from .graph import attributes, constant, dims, operand, per_channel, private, producer, stored
from .model import Op, Proposal, Refusal, Rewrite


def flattened(node: ir.Node) -> Proposal | None:
    """The dense layer behind a Flatten that nothing else reads."""
    flatten = producer(node.inputs[0], "Flatten")
    if flatten is None or private(flatten.outputs[0]):
        return None
    own = Op("Flatten", (flatten.inputs[0],), attributes(flatten), shape=dims(flatten.outputs[0]))
    return Proposal((node,), Op("Gemm", (own, *node.inputs[1:]), attributes(node)), context=(flatten,), extent="true")


def mapped(node: ir.Node) -> Proposal | Refusal | None:
    """The dense layer of the features as they were before the map."""
    before, shape = node.inputs[0].producer(), dims(node.inputs[0])
    if before is None or shape is None or len(shape) != 2 or shape[1] is None or linear.linear_producer(before.inputs[0]):
        return None
    found = _map(before, shape[1])
    if found is None or from_input(found[0], alone=True):
        return None
    if reason := linear.obstacle(node):
        return Refusal(reason)
    x, scale, offset = found
    weight, bias = stored(node.inputs[1]), constant(operand(node, 2))
    moved = constant(node.inputs[1]) @ offset
    inputs = (x, weight * scale, moved if bias is None else bias.reshape(-1) + moved)
    return Proposal((node,), Op("Gemm", inputs, attributes(node)), context=(before,))


def _map(node: ir.Node, features: int) -> tuple[ir.Value, np.ndarray, np.ndarray] | None:
    """The tensor behind an affine map of its features, and the map."""
    if node.op_type == "BatchNormalization":
        found = batch_normalization.affine(node)
        return None if isinstance(found, Refusal) else (node.inputs[0], *found)
    found = affine(node)
    parts = () if found is None else (per_channel(found.scale, 2, features), per_channel(found.offset, 2, features))
    return (found.data, *parts) if parts and all(p is not None for p in parts) else None


OWN_FLATTEN = Rewrite("own_flatten", flattened, ("Gemm",))
MAPPED = Rewrite("fold_affine_into_dense", mapped, ("Gemm",))
