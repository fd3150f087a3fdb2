"""SAME and VALID padding written out for the known image size.

    total = max(0, (ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size)

UPPER puts the larger half at the end, LOWER at the beginning.
Weights and channels take no part in this, both sides have the same: the proof runs on one channel of the real size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from .graph import attribute, attributes, dims, stored
from .model import Op, Proposal, Refusal, Rewrite

ANCHORS = ("Conv", "MaxPool", "AveragePool")


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The same operation with explicit pads."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode == "NOTSET":
        return None
    shape, kernel = dims(node.inputs[0]), _kernel(node)
    if shape is None or len(shape) != 4 or None in shape[2:] or len(kernel) != 2:
        return Refusal(f"its auto_pad {mode} cannot be written out: it is not 2-D or its image size is not known")
    found = attributes(node)
    explicit = {k: v for k, v in found.items() if k != "auto_pad"} | {"pads": _pads(mode, shape[2:], kernel, found)}
    x = ir.Value(name="channel", shape=ir.Shape(["N", 1, *shape[2:]]))
    witness = tuple(_single_channel(node, x, kernel, a) for a in (found, explicit))
    return Proposal((node,), Op(node.op_type, tuple(node.inputs), explicit), extent="true", witness=witness)


def _kernel(node: ir.Node) -> tuple[int, ...]:
    weight = dims(node.inputs[1]) if node.op_type == "Conv" else None
    return tuple(attribute(node, "kernel_shape", weight[2:] if weight else ()))


def _pads(mode: str, sizes: tuple[int, ...], kernel: tuple[int, ...], found: dict[str, Any]) -> tuple[int, ...]:
    if mode == "VALID":
        return 0, 0, 0, 0
    strides, dilations = found.get("strides", (1, 1)), found.get("dilations", (1, 1))
    totals = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)]
    begins = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals]
    return *begins, *(t - b for t, b in zip(totals, begins, strict=True))


def _single_channel(node: ir.Node, x: ir.Value, kernel: tuple[int, ...], found: dict[str, Any]) -> Op:
    """The operation on one channel, with the taps of its first filter (or distinct ones when they are not constant)."""
    if node.op_type != "Conv":
        return Op(node.op_type, (x,), found)
    weight = stored(node.inputs[1])
    taps = np.arange(1.0, 1 + np.prod(kernel)).reshape(1, 1, *kernel) if weight is None else weight[:1, :1].astype(np.float64)
    return Op("Conv", (x, taps), found | {"group": 1})


REWRITE = Rewrite("explicit_pads", rewrite, ANCHORS)
