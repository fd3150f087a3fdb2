"""A dilated convolution, transposed or not, is one with a larger kernel, zeros between its taps. A plain one only where the target needs it.

    Conv(x, w, dilations = d) = Conv(x, w'),   w'[.., i d, j d] = w[.., i, j],  0 elsewhere
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .constant_folding import LARGEST
from .graph import attribute, attributes, constant
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The kernel with its zeros."""
    dilations = tuple(attribute(node, "dilations", (1, 1)))
    if set(dilations) == {1} or len(dilations) != 2:
        return None
    if (weight := constant(node.inputs[1])) is None:
        return Refusal("its weight is computed by the model")
    sizes = tuple((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True))
    if (numbers := weight.shape[0] * weight.shape[1] * sizes[0] * sizes[1]) > LARGEST:
        return Refusal(f"its kernel of {sizes[0]}x{sizes[1]} pixels would have {numbers} numbers, more than {LARGEST}")
    spread = np.zeros((*weight.shape[:2], *sizes))
    spread[:, :, :: dilations[0], :: dilations[1]] = weight
    kept = {k: v for k, v in attributes(node).items() if k not in ("dilations", "kernel_shape")}
    return Proposal((node,), Op(node.op_type, (node.inputs[0], spread, *node.inputs[2:]), {**kept, "dilations": (1, 1), "kernel_shape": sizes}))


REWRITE = Rewrite("dilated_kernel", rewrite, ("Conv",))
TRANSPOSED = Rewrite("dilated_transposed_kernel", rewrite, ("ConvTranspose",))
