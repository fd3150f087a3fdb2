"""Slopes that differ between channels: two halves, each rectified, and their sum.

    PRelu(x; s) = relu(x) - s relu(-x) = [1, -s] relu([x, -x])

The convolution before it has each filter twice, one of them negative, and a grouped one adds them up. Where none is free to be split, one of 1 and -1 for each
channel stands in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from . import linear
from .graph import attributes, constant, dims, per_channel, private, producer
from .model import Op, Proposal, Refusal, Rewrite
from .pieces import unpadded


def split(node: ir.Node) -> Proposal | None:
    """Both halves by the convolution before."""
    x, slopes = node.inputs[0], _slopes(node)
    conv = producer(x, "Conv")
    if slopes is None or conv is None or not private(x) or linear.obstacle(conv):
        return None
    weights = [v for v in map(constant, conv.inputs[1:]) if v is not None]
    return Proposal((conv, node), _halves(node, Op("Conv", (conv.inputs[0], *_both(weights)), attributes(conv), name=conv.name or ""), slopes))


def stand_in(node: ir.Node) -> Proposal | Refusal:
    """Both halves by a convolution of its own."""
    x, slopes = node.inputs[0], _slopes(node)
    if slopes is None:
        return Refusal("its slopes differ between pixels or are computed by the model, or its input is no image")
    return Proposal((node,), _halves(node, Op("Conv", (x, *_both([np.ones((len(slopes), 1, 1, 1))])), unpadded(groups=len(slopes))), slopes))


def _slopes(node: ir.Node) -> np.ndarray | None:
    """One for each channel of an image."""
    shape, slope = dims(node.inputs[0]), constant(node.inputs[1])
    return None if slope is None or shape is None or len(shape) != 4 or shape[1] is None else per_channel(slope, 4, shape[1])


def _halves(node: ir.Node, twice: Op, slopes: np.ndarray) -> Op:
    """relu of both, and their sum."""
    batch, channels, *size = dims(node.inputs[0])
    wide = (batch, 2 * channels, *size)
    weight = np.stack([np.ones(channels), -slopes], axis=1).reshape(channels, 2, 1, 1)
    rectified = Op("Relu", (Op(twice.op, twice.inputs, twice.attributes, name=twice.name, shape=wide),), shape=wide)
    return Op("Conv", (rectified, weight), unpadded(groups=channels), name=node.name or "", shape=(batch, channels, *size))


def _both(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each filter and its negative, side by side."""
    return [np.stack([v, -v], axis=1).reshape(-1, *v.shape[1:]) for v in arrays]


SPLIT = Rewrite("slopes_to_halves", split, ("PRelu",))
STAND_IN = Rewrite("slopes_to_convolution", stand_in, ("PRelu",), last=True)
