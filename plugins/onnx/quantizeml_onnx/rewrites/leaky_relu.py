"""PRelu with one slope for all channels is LeakyRelu.

    PRelu(x, a) = max(x, 0) + a * min(x, 0) = LeakyRelu(x; alpha = a)
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import constant
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """LeakyRelu."""
    slope = constant(node.inputs[1])
    if slope is None:
        return Refusal("its slope is computed by the model")
    if slope.size == 0 or (slope != slope.reshape(-1)[0]).any():
        return None
    return Proposal((node,), Op("LeakyRelu", (node.inputs[0],), {"alpha": float(slope.reshape(-1)[0])}))


REWRITE = Rewrite("prelu_to_leaky_relu", rewrite, ("PRelu",))
