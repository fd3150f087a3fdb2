"""Bounds that no ReLU has.

    clip(x; a, b), a != 0 or b <= 0: a table, function Clamp of domain `quantizeml`
    clip(alpha x + beta; 0, 1) = HardSigmoid(x)                        behind a convolution, which takes alpha and beta in
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import linear
from .clip import ANCHORS, UNBOUNDED, bounds
from .functions import DOMAIN
from .graph import attribute, dims, private
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


CLAMP = Rewrite("clip_to_table", clamp, ("Clip",))
HARD_SIGMOID = Rewrite("hard_sigmoid_to_clip", hard_sigmoid, ("HardSigmoid",))
