"""A channel-last network flattens (N, H, W, C), and its dense layer has weights in that order; permuted back, the transposition goes.

    Gemm(Flatten(Transpose(x)), W) = Gemm(Flatten(x), W')        columns of W' permuted back to the order of x
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from .graph import attribute, attributes, dims, is_constant, private, producer, stored
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Gemm with permuted columns, without the transposition."""
    flatten = producer(node.inputs[0], "Flatten")
    transpose = None if flatten is None else producer(flatten.inputs[0], "Transpose")
    if transpose is None or attribute(flatten, "axis", 1) != 1 or not attribute(node, "transB", 0) or not is_constant(node.inputs[1]):
        return None
    perm, shape = tuple(attribute(transpose, "perm", ())), dims(transpose.inputs[0])
    if not perm or perm[0] != 0 or shape is None or None in shape[1:]:
        return Refusal("the transposition before it moves the batch or has an unknown shape")
    weight = stored(node.inputs[1])
    columns = weight.reshape(len(weight), *(shape[p] for p in perm[1:]))
    restored = np.ascontiguousarray(columns.transpose(0, *(perm.index(i) for i in range(1, len(perm)))).reshape(weight.shape))
    flat = Op("Flatten", (transpose.inputs[0],), {"axis": 1}, name=flatten.name or "" if private(flatten.outputs[0]) else "", shape=(shape[0], math.prod(shape[1:])))
    return Proposal((node,), Op("Gemm", (flat, restored, *node.inputs[2:]), attributes(node)), context=(transpose, flatten), extent="true")


REWRITE = Rewrite("drop_transpose_before_dense", rewrite, ("Gemm",))
