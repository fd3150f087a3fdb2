"""Every dense operation in one form: Gemm with alpha = beta = 1, transA = 0, transB = 1 and a bias of one value per filter.

    x @ W = Gemm(x, W^T; transB)        alpha * x @ W + beta * c = Gemm(x, alpha * W^T, beta * c; transB)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import attribute, constant, is_constant, operand, per_channel, rank, stored
from .model import Op, Proposal, Refusal, Rewrite

NORMAL = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def matmul(node: ir.Node) -> Proposal | Refusal | None:
    """MatMul of (N, C) by a constant matrix."""
    x, weight = node.inputs
    if not is_constant(weight) or is_constant(x):
        return Refusal("its second operand is no constant") if not is_constant(weight) else Refusal("its first operand is a constant")
    if rank(x) != 2 or stored(weight).ndim != 2:
        return Refusal(f"it multiplies tensors of rank {rank(x)} and {stored(weight).ndim}, only (N, C) by (C, F) is a dense layer")
    return Proposal((node,), Op("Gemm", (x, np.ascontiguousarray(stored(weight).T)), {"transB": 1}))


def gemm(node: ir.Node) -> Proposal | Refusal | None:
    """Gemm with its attributes folded into constants."""
    found = {name: attribute(node, name, default) for name, default in DEFAULTS.items()}
    weight, bias = stored(operand(node, 1)), operand(node, 2)
    if weight is None or bias is not None and not is_constant(bias):
        return Refusal("its weight or its bias is computed by the model")
    if found == NORMAL and (bias is None or stored(bias).shape == (len(weight),)):
        return None
    if found["transA"]:
        return Refusal("it transposes its input (transA)")
    weight = weight if found["transB"] else np.ascontiguousarray(weight.T)
    scaled = weight if found["alpha"] == 1 else weight.astype(np.float64) * found["alpha"]
    if bias is None or found["beta"] == 0:
        return Proposal((node,), Op("Gemm", (node.inputs[0], scaled), {"transB": 1}))
    row = per_channel(constant(bias), 2, len(weight))
    if row is None:
        return Refusal(f"its bias has shape {stored(bias).shape}, only one value per filter is a dense layer")
    return Proposal((node,), Op("Gemm", (node.inputs[0], scaled, row * found["beta"]), {"transB": 1}))


MATMUL = Rewrite("matmul_to_gemm", matmul, ("MatMul",))
GEMM = Rewrite("normalize_gemm", gemm, ("Gemm",))
