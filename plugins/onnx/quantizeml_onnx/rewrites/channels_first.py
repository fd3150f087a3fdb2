"""A stretch of a network that runs channels last, as torch writes a ConvNeXt block, runs channels first: its transposition moves behind each operation.

    f(T x)            = T f(x)                        an activation
    T x * c, T x + c  = T (x * c'), T (x + c')        c, one number per channel, moved to axis 1
    T x @ W           = T Conv(x, W^T)                1x1
    LN(T x)           = T Conv(T' LN'(T x), gamma)     gamma and beta taken out into a depthwise convolution of one pixel
    Conv(Conv(x, diag g), W)  =  Conv(x, W diag g)    and that into a 1x1 convolution behind it
    T' T x            = x                             T: NCHW to NHWC, T': back

What comes to stand between two transpositions is a bare LayerNormalization, which is one block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .graph import attribute, attributes, constant, dims, is_constant, operand, private, producer
from .model import Expression, Op, Proposal, Refusal, Rewrite

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
POINTWISE = {"kernel_shape": (1, 1), "pads": (0, 0, 0, 0), "strides": (1, 1), "dilations": (1, 1)}
ACTIVATIONS = ("Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Swish", "Tanh")


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The operation on the image before its transposition, which follows it."""
    found = next((v for v in node.inputs if v is not None and _perm(producer(v, "Transpose")) == LAST), None)
    if found is None or dims(found) is None or len(dims(found)) != 4:
        return None
    transpose = producer(found, "Transpose")
    moved = MOVES[node.op_type](node, found, transpose.inputs[0]) if node.op_type in MOVES else None
    if moved is None:
        return None
    if private(found):
        return Proposal((transpose, node), moved)
    return Proposal((node,), moved, context=(transpose,))


def _perm(node: ir.Node | None) -> tuple[int, ...] | None:
    return None if node is None else tuple(attribute(node, "perm", ()))


def _last(inner: Op) -> Op:
    return Op("Transpose", (inner,), {"perm": LAST})


def _swapped(shape: tuple[int | None, ...] | None) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(shape[i] for i in FIRST)


def _activation(node: ir.Node, x: ir.Value, image: ir.Value) -> Expression | None:
    return _last(Op(node.op_type, (image, *node.inputs[1:]), attributes(node), node.domain, shape=dims(image)))


def _affine(node: ir.Node, x: ir.Value, image: ir.Value) -> Expression | None:
    other = next((v for v in node.inputs if v is not x), None)
    vector, channels = constant(other), dims(x)[3]
    if vector is None or vector.size not in (1, channels) or vector.shape[-1:] not in ((channels,), (1,), ()):
        return None
    return _last(Op(node.op_type, (image, vector.reshape(-1, 1, 1)), shape=dims(image)))


def _matmul(node: ir.Node, x: ir.Value, image: ir.Value) -> Expression | None:
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or node.inputs[0] is not x:
        return None
    shape = _swapped(dims(node.outputs[0]))
    return _last(Op("Conv", (image, np.ascontiguousarray(weight.T)[:, :, None, None]), {**POINTWISE, "group": 1}, name=f"{node.name}/pointwise", shape=shape))


def _normalization(node: ir.Node, x: ir.Value, image: ir.Value) -> Expression | None:
    gamma, beta = constant(operand(node, 1)), constant(operand(node, 2))
    if attribute(node, "axis", -1) not in (-1, 3) or gamma is None or _is_bare(gamma, operand(node, 2)) or operand(node, 2) is not None and beta is None:
        return None
    bare = Op("LayerNormalization", (Op("Transpose", (image,), {"perm": LAST}, shape=dims(x)), np.ones_like(gamma)),
              {"axis": -1, "epsilon": attribute(node, "epsilon", 1e-5)}, name=f"{node.name}/bare", shape=dims(x))
    offset = np.zeros_like(gamma) if beta is None else beta
    inner = Op("Transpose", (bare,), {"perm": FIRST}, shape=dims(image))
    return _last(Op("Conv", (inner, gamma.reshape(-1, 1, 1, 1), offset), {**POINTWISE, "group": gamma.size}, name=f"{node.name}/affine", shape=dims(image)))


def _is_bare(gamma: np.ndarray, beta: ir.Value | None) -> bool:
    return beta is None and bool((gamma == 1).all())


def _joined(node: ir.Node, x: ir.Value, image: ir.Value) -> Expression | None:
    return _affine(node, x, image) if any(is_constant(v) for v in node.inputs) else None


def _back(node: ir.Node, x: ir.Value, image: ir.Value) -> Expression | None:
    return image if _perm(node) == FIRST else None


MOVES: Mapping[str, Callable[[ir.Node, ir.Value, ir.Value], Expression | None]] = {
    **dict.fromkeys(ACTIVATIONS, _activation), "Add": _joined, "Mul": _joined, "MatMul": _matmul, "LayerNormalization": _normalization, "Transpose": _back,
}

REWRITE = Rewrite("channels_first", rewrite, tuple(MOVES))


def merge(node: ir.Node) -> Proposal | Refusal | None:
    """A 1x1 convolution takes in a depthwise one of one pixel that only it reads."""
    before = producer(node.inputs[0], "Conv")
    weight, scale = constant(operand(node, 1)), None if before is None else constant(operand(before, 1))
    if before is None or weight is None or scale is None or weight.shape[2:] != (1, 1) or not private(node.inputs[0]):
        return None
    if attribute(node, "group", 1) != 1 or any(attribute(node, "pads", ())) or not _scales(before, scale):
        return None
    bias, offset = constant(operand(node, 2)), constant(operand(before, 2))
    total = (0 if bias is None else bias) + weight[:, :, 0, 0] @ (np.zeros(len(scale)) if offset is None else offset)
    return Proposal((before, node), Op("Conv", (before.inputs[0], weight * scale.reshape(1, -1, 1, 1), total), attributes(node)))


def _scales(node: ir.Node, scale: np.ndarray) -> bool:
    """Whether a convolution multiplies each channel by a number and nothing else."""
    plain = set(attribute(node, "strides", (1, 1))) == {1} and not any(attribute(node, "pads", ()))
    return plain and scale.shape[1:] == (1, 1, 1) and attribute(node, "group", 1) == len(scale)


MERGE = Rewrite("merge_pointwise", merge, ("Conv",))
