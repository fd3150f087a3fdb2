"""Zero padding of height and width moved into the convolution or the max pooling that reads it.

    Conv(Pad(x; p); q) = Conv(x; p + q)
    MaxPool(Pad(x; p); q) = MaxPool(x; p + q)    for x >= 0 padded with 0, or any x padded with -inf

Each of several readers takes it in; the last one ends it.

Max pooling pads with -inf: next to a pixel >= 0 a 0 more or less makes no difference, and every window holds a pixel when p + q < k.
That x >= 0 is proven with the Relu or Clip before it.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from .clip import bounds
from .graph import attribute, attributes, dims, ints, operand, producer, scalar
from .model import Op, Proposal, Refusal, Rewrite

ANCHORS = ("Conv", "MaxPool")


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The window operation with larger pads."""
    pad = producer(node.inputs[0], "Pad")
    if pad is None:
        return None
    found = spatial(pad)
    if isinstance(found, Refusal):
        return found
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return Refusal(f"its auto_pad {attribute(node, 'auto_pad')} depends on the padded size")
    pads = tuple(a + b for a, b in zip(found, attribute(node, "pads", (0, 0, 0, 0)), strict=True))
    kept = {k: v for k, v in attributes(node).items() if k != "auto_pad"}
    grown = Op(node.op_type, (pad.inputs[0], *node.inputs[1:]), kept | {"pads": pads})
    return _convolution(pad, node, grown) if node.op_type == "Conv" else _pooling(pad, node, grown)


def spatial(pad: ir.Node) -> tuple[int, int, int, int] | Refusal:
    """top, left, bottom, right of a constant Pad."""
    found, axes = ints(pad, "pads", 1), ints(pad, "axes", 3) or (0, 1, 2, 3)
    if attribute(pad, "mode", "constant") != "constant":
        return Refusal(f"the Pad has mode {attribute(pad, 'mode')!r}, only constant padding can move into it")
    if found is None or len(dims(pad.inputs[0]) or ()) != 4 or len(found) != 2 * len(axes):
        return Refusal("the Pad is not 2-D or its pads are computed by the model")
    full = [0] * 8
    for i, axis in enumerate(axes):
        full[axis % 4], full[axis % 4 + 4] = found[i], found[i + len(axes)]
    if any(full[:2] + full[4:6]) or min(full) < 0:
        return Refusal(f"the Pad pads batch or channels, or crops (pads {tuple(full)})")
    return full[2], full[3], full[6], full[7]


def value(pad: ir.Node) -> float | None:
    """What it pads with, None when that is computed."""
    return 0.0 if operand(pad, 2) is None else scalar(operand(pad, 2))


def _convolution(pad: ir.Node, node: ir.Node, grown: Op) -> Proposal | Refusal:
    if value(pad) != 0:
        return Refusal(f"the Pad pads with {value(pad)}, a convolution pads with 0")
    return Proposal((node,), grown, context=(pad,))


def _pooling(pad: ir.Node, node: ir.Node, grown: Op) -> Proposal | Refusal:
    kernel, pads = attribute(node, "kernel_shape"), grown.attributes["pads"]
    if attribute(node, "ceil_mode", 0) or len(kernel) != 2 or any(p >= k for p, k in zip(pads, (*kernel, *kernel), strict=True)):
        return Refusal(f"a window could lie in the padding alone (pads {pads}, window {tuple(kernel)}), or its ceil_mode is 1")
    if value(pad) == -math.inf:
        return Proposal((node,), grown, context=(pad,))
    before = producer(pad.inputs[0], "Relu", "Clip")
    lowest = None if before is None else bounds(before)
    if value(pad) != 0 or lowest is None or lowest[0] < 0:
        return Refusal(f"the Pad pads with {value(pad)} and its data may be negative, max pooling ignores its padding")
    return Proposal((node,), grown, context=(before, pad))


REWRITE = Rewrite("fold_pad", rewrite, ANCHORS)
