"""A transposed convolution of several groups, or a dilated one, is a plain one whose kernel is zero between the groups and the taps.

    ConvTranspose(x, w; group g, dilations d) = ConvTranspose(x, w')     w'[c, f, i d, j d] = w[c, f - its group's first, i, j],  0 elsewhere
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import attribute, attributes, constant
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The kernel with its zeros."""
    groups, dilations = attribute(node, "group", 1), tuple(attribute(node, "dilations", (1, 1)))
    if groups == 1 and set(dilations) == {1} or len(dilations) != 2:
        return None
    if (weight := constant(node.inputs[1])) is None:
        return Refusal("its weight is computed by the model")
    channels, filters, *kernel = weight.shape
    if len(kernel) != 2:
        return None
    sizes = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    wide = np.zeros((groups, channels // groups, groups, filters, *sizes))
    for group, part in enumerate(weight.reshape(groups, -1, filters, *kernel)):
        wide[group, :, group, :, :: dilations[0], :: dilations[1]] = part
    plain = {"group": 1, "dilations": (1, 1), "kernel_shape": sizes}
    made = Op("ConvTranspose", (node.inputs[0], wide.reshape(channels, groups * filters, *sizes), *node.inputs[2:]), {**attributes(node), **plain})
    return Proposal((node,), made, extent="true")


REWRITE = Rewrite("dense_transposed_kernel", rewrite, ("ConvTranspose",))
