"""A convolution along the channels of one pixel (efficient channel attention, Wang et al., arXiv 1910.03151): a convolution of that pixel whose kernel is a band.

    view(f(Conv1d(view(x), w)))  =  f(Conv(x, band(w)))        x (N, C, 1, 1), views (N, 1, C);  band[i, j] = w[j - i + pad]
    x * Expand(g)  =  x * g                                     where x has the shape that g is spread to
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import attribute, attributes, constant, dims, operand, private
from .model import Expression, Op, Proposal, Rewrite
from .pieces import unpadded

VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose")
FUNCTIONS = ("Sigmoid", "HardSigmoid", "Tanh", "Relu")


def banded(node: ir.Node) -> Proposal | None:
    """The pixel's convolution, from the last of the views behind that of the channels."""
    shape = dims(node.outputs[0])
    if shape is None or len(shape) != 4 or shape[1] is None or shape[2:] != (1, 1):
        return None
    chain, function = [node], None
    while (before := chain[0].inputs[0].producer()) is not None and private(chain[0].inputs[0]):
        if before.op_type in FUNCTIONS and function is None:
            function = before
        elif before.op_type not in VIEWS:
            break
        chain.insert(0, before)
    band = None if before is None or not private(before.outputs[0]) else _band(before, shape[1])
    if band is None:
        return None
    views = _views(before.inputs[0])
    root = views[0].inputs[0] if views else before.inputs[0]
    pixel: Expression | None = _pixel(root, shape[1])
    if pixel is None:
        return None
    bias = constant(operand(before, 2))
    made = Op("Conv", (pixel, band) if bias is None else (pixel, band, np.repeat(bias, shape[1])), unpadded(), name=before.name or "", shape=shape)
    made = made if function is None else Op(function.op_type, (made,), attributes(function), shape=shape)
    return Proposal((before, *chain), made, tuple(views), extent="true")


def _views(value: ir.Value) -> list[ir.Node]:
    """The views that end in a value, first to last."""
    found: list[ir.Node] = []
    while (node := (found[0].inputs[0] if found else value).producer()) is not None and node.op_type in VIEWS and not node.domain:
        found.insert(0, node)
    return found


def _pixel(root: ir.Value, channels: int) -> Expression | None:
    """A tensor of one number per channel as an image of one pixel."""
    shape = dims(root)
    if shape is None or any(d is None for d in shape[1:]) or shape[1:2] != (channels,) or any(d != 1 for d in shape[2:]):
        return None
    return root if len(shape) == 4 else Op("Reshape", (root, np.array([0, channels, 1, 1])), shape=(shape[0], channels, 1, 1))


def _band(node: ir.Node, channels: int) -> np.ndarray | None:
    """The kernel (C, C, 1, 1) of a convolution along the channels, of a series (N, 1, C) or a row (N, 1, 1, C); None for any other operation."""
    weight = constant(operand(node, 1)) if node.op_type == "Conv" else None
    if weight is None or weight.size != weight.shape[-1] or any((dims(v) or ())[1:] != (*weight.shape[1:-1], channels) for v in (node.inputs[0], node.outputs[0])):
        return None
    if any(set(attribute(node, name, (1,))) != {1} for name in ("strides", "dilations")) or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    first, band = attribute(node, "pads", (0,) * 4)[weight.ndim - 3], np.zeros((channels, channels))
    for i, tap in enumerate(weight.reshape(-1)):
        band += tap * np.eye(channels, k=i - first)
    return band.reshape(channels, channels, 1, 1)


def spread(node: ir.Node) -> Proposal | None:
    """The product with what was spread."""
    for i, value in enumerate(node.inputs):
        wide, other = value.producer(), node.inputs[1 - i]
        if wide is None or wide.op_type != "Expand":
            continue
        small, shape = dims(wide.inputs[0]), dims(other)
        if shape is not None and small is not None and len(shape) == len(small) == 4 and None not in shape[1:] and shape == dims(value) and small[0] == shape[0]:
            inputs = (wide.inputs[0], other) if i == 0 else (other, wide.inputs[0])
            asked = wide.inputs[1].producer()
            return Proposal((node,), Op(node.op_type, inputs, attributes(node)), (wide,) if asked is None else (asked, wide), extent="true")
    return None


BAND = Rewrite("channel_convolution", banded, VIEWS)
SPREAD = Rewrite("spread_operand", spread, ("Mul", "Add"))
