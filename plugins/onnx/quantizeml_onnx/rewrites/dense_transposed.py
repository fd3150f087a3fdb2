"""A transposed convolution of several groups is one of a single group whose kernel is zero between them.

    ConvTranspose(x, w; group g) = ConvTranspose(x, w')     w'[c, f, i, j] = w[c, f - its group's first, i, j],  0 elsewhere
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import attribute, attributes, constant
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The kernel with its zeros."""
    groups = attribute(node, "group", 1)
    if groups == 1:
        return None
    if (weight := constant(node.inputs[1])) is None:
        return Refusal("its weight is computed by the model")
    channels, filters, *kernel = weight.shape
    wide = np.zeros((groups, channels // groups, groups, filters, *kernel))
    wide[range(groups), :, range(groups)] = weight.reshape(groups, -1, filters, *kernel)
    made = Op("ConvTranspose", (node.inputs[0], wide.reshape(channels, groups * filters, *kernel), *node.inputs[2:]), {**attributes(node), "group": 1})
    return Proposal((node,), made, extent="true")


REWRITE = Rewrite("dense_transposed_kernel", rewrite, ("ConvTranspose",))
