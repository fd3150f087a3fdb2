"""Conv(x, w, dilations (d, d)) = Conv(x, w') with w'[.., i d, j d] = w[.., i, j], 0 elsewhere, where w' has at most 7 x 7 taps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from quantizeml_onnx.rewrites import Op, Proposal, Refusal, Rewrite
from quantizeml_onnx.rewrites.graph import attribute, attributes, constant

LARGEST = 7


def spread(node: ir.Node) -> Proposal | Refusal | None:
    d, *others = attribute(node, "dilations", (1, 1))
    if d == 1 or others != [d]:
        return None
    weight = constant(node.inputs[1])
    if weight is None:
        return Refusal("its weight is computed by the model")
    size = tuple((k - 1) * d + 1 for k in weight.shape[2:])
    if max(size) > LARGEST:
        return Refusal(f"its kernel would grow to {size[0]}x{size[1]}, the hardware takes {LARGEST}x{LARGEST} at most")
    grown = np.zeros((*weight.shape[:2], *size))
    grown[:, :, ::d, ::d] = weight
    same = attributes(node) | {"dilations": (1, 1), "kernel_shape": size}
    return Proposal((node,), Op("Conv", (node.inputs[0], grown, *node.inputs[2:]), same))


ZEROS_BETWEEN_TAPS = Rewrite("zeros_between_taps", spread, anchors=("Conv",))
