"""A BatchNormalization that no neighbour can take in: a depthwise convolution of one pixel.

    s x + o = Conv(x, diag(s)) + o        kernel (C, 1, 1, 1), group C; 4-D tensors only

Not at a model input, where it is a rescaling of the samples. Only for targets with capability `depthwise2d.pointwise`.
"""

from __future__ import annotations

import onnx_ir as ir

from . import linear
from .batch_normalization import affine
from .entry import PASSED
from .graph import dims
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The depthwise convolution."""
    x, found = node.inputs[0], affine(node)
    shape = dims(x)
    if isinstance(found, Refusal) or _at_entry(x) or linear.linear_producer(x) is not None:
        return None
    if shape is None or len(shape) != 4 or shape[1] is None or shape[1] < 2:
        return Refusal("its input is not 4-D or has an unknown number of channels")
    scale, offset = found
    attributes = {"kernel_shape": (1, 1), "pads": (0, 0, 0, 0), "strides": (1, 1), "dilations": (1, 1), "group": shape[1]}
    return Proposal((node,), Op("Conv", (x, scale.reshape(-1, 1, 1, 1), offset), attributes, name=node.name, shape=shape))


def _at_entry(value: ir.Value) -> bool:
    """Whether nothing but rescalings and moves stands between the model input and here."""
    node = value.producer()
    while node is not None and node.op_type in PASSED:
        value = next((v for v in node.inputs if v is not None and not v.is_initializer()), value)
        node = value.producer()
    return node is None


REWRITE = Rewrite("depthwise_normalization", rewrite, ("BatchNormalization",))
