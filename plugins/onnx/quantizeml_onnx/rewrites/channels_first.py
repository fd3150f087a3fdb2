"""A stretch of a network that runs channels last, as torch writes a ConvNeXt block or a transformer, runs channels first: its transposition moves
behind each operation. T turns an image channels last, or one of a single row into a sequence (`rows`).

    f(T x)            = T f(x)                        an activation, a softmax
    T x + T y         = T (x + y)                     and a product
    T x * c, T x + c  = T (x * c'), T (x + c')        c, one number per channel, moved to axis 1
    T x @ W           = T Conv(x, W^T)                1x1; a Gemm too
    LN(T x)           = T Conv(T' LN'(T x), gamma)     gamma and beta taken out into a depthwise convolution of one pixel
    Conv(Conv(x, diag g), W)  =  Conv(x, W diag g)    and that into a 1x1 convolution behind it
    T' T x            = x                             T: NCHW to NHWC, T': back

What comes to stand between two transpositions is a bare LayerNormalization, which is one block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from . import rows
from .functions import ACTIVATIONS
from .gemm import DEFAULTS, NORMAL
from .graph import Dims, attribute, attributes, constant, dims, is_constant, operand, private, producer
from .model import Expression, Op, Proposal, Refusal, Rewrite
from .pieces import unpadded
from .rows import FIRST, LAST, Lens, perm_of


def lens_of(value: ir.Value | None) -> Lens | None:
    """How a tensor shows an image: channels last, or as a sequence in one of its forms."""
    turned = producer(value, "Transpose")
    if perm_of(turned) != LAST or dims(value) is None:
        return rows.lens_of(value)
    return Lens((turned,), turned.inputs[0], lambda inner: Op("Transpose", (inner,), {"perm": LAST}))


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The operation on the image before its transposition, which follows it."""
    lens, x = next(((found, v) for v in node.inputs if v is not None and (found := lens_of(v))), (None, None))
    if lens is None:
        return None
    both = [lens_of(v) for v in node.inputs[:2]]
    if node.op_type in ("Add", "Mul") and all(both):
        return _two(node, both)
    moved = MOVES[node.op_type](node, x, lens)
    if moved is None:
        return None
    witness = _two_tokens(node, x, lens) if isinstance(moved, Op) and len(dims(x)) < 4 else None
    extent = "any" if witness or len(dims(x)) == 4 else "true"
    if lens.private:
        return Proposal((*lens.nodes, node), moved, extent=extent, witness=witness)
    return Proposal((node,), moved, context=lens.nodes, extent=extent, witness=witness)


def _two_tokens(node: ir.Node, x: ir.Value, lens: Lens) -> tuple[Op, Op]:
    """The operation on a sequence of two tokens: each is computed alone, so they stand for all."""
    batch, channels, _, length = dims(lens.image)
    few = Op("Identity", (lens.image,), shape=(batch, channels, 1, min(length, 2)))
    short = replace(lens, image=few)
    return Op(node.op_type, tuple(lens.back(few) if v is x else v for v in node.inputs), attributes(node)), MOVES[node.op_type](node, x, short)


def _two(node: ir.Node, both: list[Lens]) -> Proposal | None:
    x, y = both
    if len(x.nodes) != len(y.nodes) or dims(x.image) != dims(y.image):
        return None
    context = tuple(dict.fromkeys((*x.nodes, *y.nodes)))
    return Proposal((node,), x.back(Op(node.op_type, (x.image, y.image), shape=dims(x.image))), context, "true")


def _shape(lens: Lens) -> Dims | None:
    return lens.image.shape if isinstance(lens.image, Op) else dims(lens.image)


def _filtered(lens: Lens, filters: int) -> Dims:
    """The image's shape with so many channels."""
    batch, _, *size = _shape(lens)
    return batch, filters, *size


def _activation(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    return lens.back(Op(node.op_type, (lens.image, *node.inputs[1:]), attributes(node), node.domain, shape=_shape(lens)))


def _affine(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    other = next((v for v in node.inputs if v is not x), None)
    vector, channels = constant(other), dims(x)[-1]
    if vector is None or vector.size not in (1, channels) or vector.shape[-1:] not in ((channels,), (1,), ()):
        return None
    return lens.back(Op(node.op_type, (lens.image, vector.reshape(-1, 1, 1)), shape=_shape(lens)))


def _matmul(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or node.inputs[0] is not x:
        return None
    shape, kernel = _filtered(lens, weight.shape[1]), np.ascontiguousarray(weight.T)[:, :, None, None]
    return lens.back(Op("Conv", (lens.image, kernel), unpadded(), name=f"{node.name}/pointwise", shape=shape))


def _softmax(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    if attribute(node, "axis", -1) not in (-1, len(dims(x)) - 1):
        return None
    return lens.back(Op("Softmax", (lens.image,), {"axis": 1}, shape=_shape(lens)))


def _gemm(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    weight, bias, form = constant(node.inputs[1]), operand(node, 2), {name: attribute(node, name, default) for name, default in DEFAULTS.items()}
    if weight is None or form != NORMAL or bias is not None and constant(bias) is None:
        return None
    shape, given = _filtered(lens, len(weight)), () if bias is None else (constant(bias).reshape(-1),)
    kernel = Op("Conv", (lens.image, weight[:, :, None, None], *given), unpadded(), name=f"{node.name}/pointwise", shape=shape)
    return lens.back(kernel)


def _normalization(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    gamma, beta, shape, rank = constant(operand(node, 1)), constant(operand(node, 2)), _shape(lens), len(dims(x))
    if attribute(node, "axis", -1) not in (-1, rank - 1) or gamma is None or operand(node, 2) is not None and beta is None:
        return None
    if rank == 4 and _is_bare(gamma, operand(node, 2)):
        return None
    last = tuple(shape[i] for i in LAST)
    bare = Op("LayerNormalization", (Op("Transpose", (lens.image,), {"perm": LAST}, shape=last), np.ones_like(gamma)),
              {"axis": -1, "epsilon": attribute(node, "epsilon", 1e-5)}, name=f"{node.name}/bare", shape=last)
    offset = np.zeros_like(gamma) if beta is None else beta
    inner = Op("Transpose", (bare,), {"perm": FIRST}, shape=shape)
    return lens.back(Op("Conv", (inner, gamma.reshape(-1, 1, 1, 1), offset), unpadded(groups=gamma.size), name=f"{node.name}/affine", shape=shape))


def _is_bare(gamma: np.ndarray, beta: ir.Value | None) -> bool:
    return beta is None and bool((gamma == 1).all())


def _joined(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    return _affine(node, x, lens) if any(is_constant(v) for v in node.inputs) else None


def _back(node: ir.Node, x: ir.Value, lens: Lens) -> Expression | None:
    return lens.image if perm_of(node) == FIRST else None


MOVES: Mapping[str, Callable[[ir.Node, ir.Value, Lens], Expression | None]] = {
    **dict.fromkeys(ACTIVATIONS, _activation), "Add": _joined, "Mul": _joined, "MatMul": _matmul, "Gemm": _gemm, "Softmax": _softmax,
    "LayerNormalization": _normalization, "Transpose": _back,
}

REWRITE = Rewrite("channels_first", rewrite, tuple(MOVES))


def merge(node: ir.Node) -> Proposal | Refusal | None:
    """A 1x1 convolution takes in a depthwise one of one pixel that only 1x1 convolutions read."""
    before = producer(node.inputs[0], "Conv")
    if before is None or not _scales(before) or node.inputs[0].is_graph_output() or not all(_pointwise(n) for n in node.inputs[0].consumers()):
        return None
    weight, scale = constant(operand(node, 1)), constant(operand(before, 1))
    if weight is None or scale is None:
        return None
    bias, offset = constant(operand(node, 2)), constant(operand(before, 2))
    total = (0 if bias is None else bias) + weight[:, :, 0, 0] @ (np.zeros(len(scale)) if offset is None else offset)
    merged = Op("Conv", (before.inputs[0], weight * scale.reshape(1, -1, 1, 1), total), attributes(node))
    return Proposal((before, node), merged) if private(node.inputs[0]) else Proposal((node,), merged, (before,))


def _pointwise(node: ir.Node) -> bool:
    weight = dims(operand(node, 1)) if node.op_type == "Conv" else None
    return weight is not None and weight[2:] == (1, 1) and attribute(node, "group", 1) == 1 and not any(attribute(node, "pads", ()))


def _scales(node: ir.Node) -> bool:
    """Whether a convolution multiplies each channel by a number and nothing else."""
    weight, plain = dims(operand(node, 1)), set(attribute(node, "strides", (1, 1))) == {1} and not any(attribute(node, "pads", ()))
    return plain and weight is not None and weight[1:] == (1, 1, 1) and attribute(node, "group", 1) == weight[0]


MERGE = Rewrite("merge_pointwise", merge, ("Conv",))
