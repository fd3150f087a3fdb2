"""Bounds that no ReLU has, and slopes that differ between channels.

    clip(x; a, b), a != 0 or b <= 0: a table, function Clamp of domain `quantizeml`
    clip(alpha x + beta; 0, 1) = HardSigmoid(x)                        behind a convolution, which takes alpha and beta in
    PRelu(x; s) = relu(x) - s relu(-x) = [1, -s] relu([x, -x])         the convolution before it has each filter twice, and a grouped one adds them up
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import linear
from .clip import ANCHORS, UNBOUNDED, bounds
from .functions import DOMAIN
from .graph import attribute, attributes, constant, dims, operand, per_channel, private, producer
from .model import Op, Proposal, Refusal, Rewrite


def clamp(node: ir.Node) -> Proposal | Refusal | None:
    """The function whose table is the clip."""
    found, readers = bounds(node), node.outputs[0].consumers()
    if found is None or found[0] == 0 < found[1] or any(reader.op_type in ANCHORS for reader in readers):
        return None
    if found[0] > found[1]:
        return Refusal("its lower bound is above its upper one")
    low, high = (np.asarray(np.clip(b, -UNBOUNDED, UNBOUNDED), np.float64) for b in found)
    return Proposal((node,), Op("Clamp", (node.inputs[0], low, high), domain=DOMAIN), extent="element")


def hard_sigmoid(node: ir.Node) -> Proposal | None:
    """A clipped ReLU of the convolution."""
    x = node.inputs[0]
    if linear.linear_producer(x) is None or not private(x):
        return None
    alpha, beta = (attribute(node, name, default) for name, default in (("alpha", 0.2), ("beta", 0.5)))
    scaled = Op("Add", (Op("Mul", (x, np.asarray(alpha, np.float64)), shape=dims(x)), np.asarray(beta, np.float64)), shape=dims(x))
    return Proposal((node,), Op("Clip", (scaled, np.asarray(0.0), np.asarray(1.0))))


def slopes(node: ir.Node) -> Proposal | Refusal | None:
    """Two halves, each rectified, and their sum."""
    x, slope = node.inputs[0], constant(node.inputs[1])
    shape, conv = dims(x), producer(x, "Conv")
    if slope is None or slope.size < 2 or (slope == slope.reshape(-1)[0]).all():
        return None
    if shape is None or len(shape) != 4 or shape[1] is None or (each := per_channel(slope, 4, shape[1])) is None:
        return Refusal("its slopes differ between pixels, or its input is no image")
    if conv is None or not private(x) or linear.obstacle(conv):
        return Refusal("its slopes differ between channels and no convolution before it is free to split them")
    halves = Op("Relu", (_twice(conv, shape),), shape=(shape[0], 2 * shape[1], *shape[2:]))
    weight = np.stack([np.ones(shape[1]), -each], axis=1).reshape(shape[1], 2, 1, 1)
    plain = {"kernel_shape": (1, 1), "pads": (0, 0, 0, 0), "strides": (1, 1), "dilations": (1, 1), "group": shape[1]}
    return Proposal((conv, node), Op("Conv", (halves, weight), plain, name=node.name or "", shape=shape))


def _twice(conv: ir.Node, shape: tuple[int | None, ...]) -> Op:
    """Each filter and its negative, side by side."""
    weight, bias = constant(conv.inputs[1]), constant(operand(conv, 2))
    both = [np.stack([v, -v], axis=1).reshape(-1, *v.shape[1:]) for v in (weight, bias) if v is not None]
    return Op("Conv", (conv.inputs[0], *both), attributes(conv), name=conv.name or "", shape=(shape[0], 2 * shape[1], *shape[2:]))


CLAMP = Rewrite("clip_to_table", clamp, ("Clip",))
HARD_SIGMOID = Rewrite("hard_sigmoid_to_clip", hard_sigmoid, ("HardSigmoid",))
SLOPES = Rewrite("slopes_to_halves", slopes, ("PRelu",))
