"""Convolutions or dense layers of one tensor whose sum is all that is read are one, as RepVGG and its kin are deployed (Ding et al., arXiv 2101.03697, section 3.3).

    Conv(x, v, a) + Conv(x, w, b) = Conv(x, v' + w', a + b)       v', w': the kernels in one frame, zeros around them
    Conv(x, v, a) + BN(x)         = Conv(x, v + diag(s), a + o)

Their strides are equal; depthwise ones stay depthwise, another one takes in a depthwise one as a diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from . import batch_normalization, linear
from .graph import attribute, attributes, constant, dims, in_order, operand, private, producer
from .model import Op, Proposal, Rewrite
from .pieces import unpadded


@dataclass(frozen=True, eq=False)
class Branch:
    """A convolution of `x`: kernel (F, C / groups, kh, kw), bias (F,), pads in front and strides along height and width."""

    node: ir.Node
    x: ir.Value
    kernel: np.ndarray
    bias: np.ndarray
    pads: tuple[int, int]
    strides: tuple[int, int]
    groups: int


def rewrite(node: ir.Node) -> Proposal | None:
    """The one convolution."""
    shape, branches = dims(node.outputs[0]), [_branch(v) for v in node.inputs]
    if shape is None or None in shape[1:] or None in branches or len(branches) != 2 or branches[0].node is branches[1].node:
        return None
    a, b = branches
    size = dims(a.x)
    if "Conv" not in (a.node.op_type, b.node.op_type) or a.x is not b.x or a.strides != b.strides or size is None or None in size[1:] or len(a.bias) != len(b.bias):
        return None
    groups = max(a.groups, b.groups) if a.groups == b.groups else 1
    kernels = [_dense(branch, size[1]) if branch.groups != groups else branch.kernel for branch in branches]
    if any(k is None for k in kernels) or kernels[0].shape[:2] != kernels[1].shape[:2]:
        return None
    front = tuple(max(p) for p in zip(a.pads, b.pads, strict=True))
    extent = tuple(max(front[i] - branch.pads[i] + branch.kernel.shape[2 + i] for branch in branches) for i in (0, 1))
    total = sum(_framed(k, tuple(f - p for f, p in zip(front, branch.pads, strict=True)), extent) for k, branch in zip(kernels, branches, strict=True))
    back = tuple(a.strides[i] * (shape[2 + i] - 1) + extent[i] - size[2 + i] - front[i] for i in (0, 1))
    form = unpadded(extent, a.strides, groups) | {"pads": (*front, *(max(e, 0) for e in back))}
    if any((size[2 + i] + front[i] + max(back[i], 0) - extent[i]) // a.strides[i] + 1 != shape[2 + i] for i in (0, 1)):
        return None
    first = a.node if a.node.op_type == "Conv" else b.node
    return Proposal(in_order((a.node, b.node, node)), Op("Conv", (a.x, total, a.bias + b.bias), form, name=first.name or ""), extent="true")


def _branch(value: ir.Value) -> Branch | None:
    node = value.producer()
    if node is None or node.domain or not private(value) or len(dims(value) or ()) != 4:
        return None
    if node.op_type == "BatchNormalization":
        found = batch_normalization.affine(node)
        return None if not isinstance(found, tuple) else Branch(node, node.inputs[0], found[0].reshape(-1, 1, 1, 1), found[1], (0, 0), (1, 1), len(found[0]))
    kernel, bias = (constant(operand(node, i)) for i in (1, 2)) if node.op_type == "Conv" else (None, None)
    if kernel is None or kernel.ndim != 4 or operand(node, 2) is not None and bias is None or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    if set(attribute(node, "dilations", (1, 1))) != {1}:
        return None
    pads, strides = tuple(attribute(node, "pads", (0, 0, 0, 0)))[:2], tuple(attribute(node, "strides", (1, 1)))
    return Branch(node, node.inputs[0], kernel, np.zeros(len(kernel)) if bias is None else bias, pads, strides, attribute(node, "group", 1))


def _dense(branch: Branch, channels: int) -> np.ndarray | None:
    """A depthwise kernel as one of a single group; None where there are other groups."""
    if branch.groups != channels or branch.kernel.shape[:2] != (channels, 1):
        return None
    wide = np.zeros((channels, channels, *branch.kernel.shape[2:]))
    wide[range(channels), range(channels)] = branch.kernel[:, 0]
    return wide


def _framed(kernel: np.ndarray, at: tuple[int, int], extent: tuple[int, int]) -> np.ndarray:
    framed = np.zeros((*kernel.shape[:2], *extent))
    framed[:, :, at[0] : at[0] + kernel.shape[2], at[1] : at[1] + kernel.shape[3]] = kernel
    return framed


def dense(node: ir.Node) -> Proposal | None:
    """The one dense layer."""
    a, b = (producer(v, "Gemm") if private(v) else None for v in node.inputs)
    if a is None or b is None or a is b or linear.obstacle(a) or linear.obstacle(b) or dims(a.outputs[0]) != dims(b.outputs[0]):
        return None
    flat = [producer(n.inputs[0], "Flatten") for n in (a, b)]
    if a.inputs[0] is not b.inputs[0] and (None in flat or flat[0].inputs[0] is not flat[1].inputs[0] or attributes(flat[0]) != attributes(flat[1])):
        return None
    biases = [bias.reshape(-1) for n in (a, b) if (bias := constant(operand(n, 2))) is not None]
    inputs = (a.inputs[0], constant(a.inputs[1]) + constant(b.inputs[1]), *((sum(biases),) if biases else ()))
    context = () if a.inputs[0] is b.inputs[0] else in_order(flat)
    return Proposal(in_order((a, b, node)), Op("Gemm", inputs, attributes(a), name=a.name or ""), context, extent="true")


REWRITE = Rewrite("sum_of_convolutions", rewrite, ("Add",))
DENSE = Rewrite("sum_of_dense_layers", dense, ("Add",))
