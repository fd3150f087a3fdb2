"""BatchNormalization folded into the Conv or Gemm before it.

    gamma * (x - mean) / sqrt(var + eps) + beta = s x + o        s = gamma / sqrt(var + eps), o = beta - s * mean
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import linear
from .graph import attribute, constant, title
from .model import Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The convolution or dense operation with the normalization in its weights."""
    found = affine(node)
    if isinstance(found, Refusal):
        return found
    before = linear.linear_producer(node.inputs[0])
    if before is None:
        made = node.inputs[0].producer()
        return Refusal(f"it follows {title(made)}, only a Conv or a Gemm can take it in") if made is not None else None
    return linear.fold(before, node, *found)


def affine(node: ir.Node) -> tuple[np.ndarray, np.ndarray] | Refusal:
    """(scale, offset) per channel of a BatchNormalization at inference."""
    parameters = [constant(v) for v in node.inputs[1:5]]
    if any(p is None for p in parameters) or attribute(node, "training_mode", 0):
        return Refusal("its parameters are computed by the model or it is in training mode")
    gamma, beta, mean, variance = parameters
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return scale, beta - scale * mean


REWRITE = Rewrite("fold_batch_normalization", rewrite, ("BatchNormalization",))
