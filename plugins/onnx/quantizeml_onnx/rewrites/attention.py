"""Attention spelled out on sequences becomes one operation on their images of one row.

    Reshape(Transpose(softmax(Q K scale) V; 0, 2, 1, 3); N, T, C) = S Attention(q, k, v)

Q, K and V are pictures of images: reached from a sequence S x (`rows`) by reshapes, transpositions, slices and factors, whatever their order and number.
Each picture is a list of axes, each axis a list of factors (dimension, size, stride) of the image; a fused projection of queries, keys and values leaves an
offset along the channels, which the 1x1 convolution that wrote them is cut at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quantizeml_core.pictures import Axes, channels, heads, regroup, sequence_axes

from .functions import DOMAIN
from .graph import attribute, attributes, constant, dims, operand, producer, scalar
from .model import Op, Proposal, Refusal, Rewrite
from .rows import Lens, as_sequence, perm_of, sequence

@dataclass(frozen=True)
class Picture:
    """What a tensor shows of a sequence: axes of factors (`n`, `t` or `c`; size; stride), an offset along the channels, a factor of the values."""

    lens: Lens
    axes: Axes
    offset: int = 0
    scale: float = 1.0
    nodes: tuple[ir.Node, ...] = ()


def picture(value: ir.Value | None) -> Picture | None:
    """The picture that a tensor is, None when it is none."""
    lens = sequence(value)
    if lens is not None:
        batch, width, _, length = dims(lens.image)
        return Picture(lens, sequence_axes(batch, length, width))
    node = None if value is None else value.producer()
    change = CHANGES.get(node.op_type) if node is not None and not node.domain else None
    source = None if change is None else next((v for v in node.inputs if v is not None and constant(v) is None), None)
    before = None if source is None else picture(source)
    after = None if before is None else change(node, before) if node.op_type != "Split" else _part(node, before, value)
    return None if after is None else replace(after, nodes=(*before.nodes, node))


def _reshaped(node: ir.Node, before: Picture) -> Picture | None:
    shape = dims(node.outputs[0])
    if shape is None or sum(d is None for d in shape) > 1:
        return None
    axes = regroup(before.axes, shape)
    return None if axes is None else replace(before, axes=axes)


def _transposed(node: ir.Node, before: Picture) -> Picture:
    return replace(before, axes=tuple(before.axes[i] for i in perm_of(node) or reversed(range(len(before.axes)))))


def _gathered(node: ir.Node, before: Picture) -> Picture | None:
    index, axis = constant(node.inputs[1]), attribute(node, "axis", 0) % len(before.axes)
    if index is None or index.ndim:
        return None
    return _at(before, axis, int(index), 1, keep=False)


def _sliced(node: ir.Node, before: Picture) -> Picture | None:
    found = [constant(operand(node, i)) for i in (1, 2, 3, 4)]
    if any(v is None for v in found[:3]) or any(v is not None and v.size != 1 for v in found) or found[3] is not None and found[3].item() != 1:
        return None
    start, end, axis = (int(v.reshape(-1)[0]) for v in found[:3])
    size = int(np.prod([f[1] for f in before.axes[axis]]))
    start, end, _ = slice(start, end).indices(size)
    return _at(before, axis % len(before.axes), start, end - start, keep=True)


def _part(node: ir.Node, before: Picture, value: ir.Value) -> Picture | None:
    """One output of a Split; all are as wide as its outputs' shapes say."""
    axis = attribute(node, "axis", 0) % len(before.axes)
    sizes = [(dims(v) or ())[axis : axis + 1] for v in node.outputs]
    index = next(i for i, v in enumerate(node.outputs) if v is value)
    if any(not s or s[0] is None for s in sizes):
        return None
    return _at(before, axis, sum(s[0] for s in sizes[:index]), sizes[index][0], keep=True)


def _at(before: Picture, axis: int, start: int, size: int, keep: bool) -> Picture | None:
    """A stretch of an axis that is one factor of the channels."""
    if len(before.axes[axis]) != 1 or before.axes[axis][0][0] != "c":
        return None
    name, extent, stride = before.axes[axis][0]
    stretch = (((name, size, stride),) if size > 1 else (),) if keep else ()
    offset = before.offset + start % extent * stride
    return replace(before, axes=(*before.axes[:axis], *stretch, *before.axes[axis + 1:]), offset=offset)


def _squeezed(node: ir.Node, before: Picture) -> Picture | None:
    return _reshaped(node, before)


def _multiplied(node: ir.Node, before: Picture) -> Picture | None:
    factor = next((f for v in node.inputs if (f := scalar(v)) is not None), None)
    if factor is None or node.op_type == "Div" and scalar(node.inputs[1]) is None:
        return None
    return replace(before, scale=before.scale * (factor if node.op_type == "Mul" else 1 / factor))


CHANGES = {"Reshape": _reshaped, "Transpose": _transposed, "Gather": _gathered, "Slice": _sliced, "Squeeze": _squeezed, "Unsqueeze": _squeezed,
           "Mul": _multiplied, "Div": _multiplied, "Split": _part}


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The whole attention, from the pictures of its operands to the sequence of its result."""
    turned = producer(node.inputs[0], "Transpose")
    mean = producer(turned.inputs[0], "MatMul") if perm_of(turned) == (0, 2, 1, 3) else None
    softmax = None if mean is None else producer(mean.inputs[0], "Softmax")
    if softmax is None or attribute(softmax, "axis", -1) not in (-1, 3) or len(dims(node.outputs[0]) or ()) != 3:
        return None
    factors, scores = _factors(softmax.inputs[0])
    if scores is None:
        return Refusal("its scores are no product of queries and keys: a mask or a bias is not supported")
    pictures = [picture(v) for v in (*scores.inputs, mean.inputs[1])]
    if not all(pictures):
        return None
    count = _heads(*pictures)
    if count is None or pictures[2].scale != 1:
        return Refusal("its queries, keys and values do not split the channels into heads of one size")
    if not all(_whole(p) or _cuttable(p) for p in pictures):
        return Refusal("its queries, keys and values are parts of something else than the output of one dense layer")
    scale = float(np.prod([pictures[0].scale, pictures[1].scale, *(f for f, _ in factors)]))
    inner = _ordered([*(n for p in pictures for n in p.nodes), scores, *(n for _, n in factors), softmax, mean, turned, node])
    context = tuple(dict.fromkeys(n for p in pictures for n in (*_cuttable(p), *p.lens.nodes)))
    return Proposal(inner, as_sequence(_attention(pictures, count, scale)), context, "true")


def _factors(value: ir.Value) -> tuple[list[tuple[float, ir.Node]], ir.Node | None]:
    """Scalars on the way from the scores to the softmax, and the product that makes the scores."""
    node, found = value.producer(), []
    while node is not None and node.op_type in ("Mul", "Div") and (factor := scalar(node.inputs[1])) is not None:
        found.append((factor if node.op_type == "Mul" else 1 / factor, node))
        node = node.inputs[0].producer()
    return found[::-1], node if node is not None and node.op_type == "MatMul" else None


def _heads(q: Picture, k: Picture, v: Picture) -> int | None:
    """Number of heads when each operand has its axes where an attention wants them."""
    (batch, _, _, queries), (*_, keys) = dims(q.lens.image), dims(k.lens.image)
    return heads(q.axes, k.axes, v.axes, batch, (queries, keys)) if dims(v.lens.image)[3] == keys else None


def _ordered(nodes: Sequence[ir.Node]) -> tuple[ir.Node, ...]:
    return tuple(sorted(dict.fromkeys(nodes), key=lambda n: _position(n)))


def _position(node: ir.Node) -> int:
    return next(i for i, n in enumerate(node.graph) if n is node)


def _attention(pictures: Sequence[Picture], count: int, scale: float) -> Op:
    tensors = [_cut(p) for p in pictures]
    (batch, queries, _, length), values = dims(pictures[0].lens.image), _channels(pictures[2])
    split, whole = np.array([0, count, -1, length]), np.array([0, values, 1, length])
    return Op("Attention", (*tensors, split, np.array(scale), whole), domain=DOMAIN, shape=(batch, values, 1, length))


def _channels(p: Picture) -> int:
    return channels(p.axes)


def _whole(p: Picture) -> bool:
    return _channels(p) == dims(p.lens.image)[1]


def _cuttable(p: Picture) -> tuple[ir.Node, ...]:
    """The convolution whose filters are cut at, once nothing has still to be folded into it; none for a whole image."""
    conv = None if _whole(p) else producer(p.lens.image, "Conv")
    return () if conv is None or attribute(conv, "group", 1) != 1 or constant(conv.inputs[1]) is None else (conv,)


def _cut(p: Picture) -> ir.Value | Op:
    """The channels that a picture shows: the image, or the convolution that wrote it with some of its filters."""
    image, wanted = p.lens.image, _channels(p)
    batch, _, _, length = dims(image)
    if _whole(p):
        return image
    conv = producer(image, "Conv")
    weight, bias = constant(conv.inputs[1]), constant(operand(conv, 2))
    rows = slice(p.offset, p.offset + wanted)
    inputs = (conv.inputs[0], weight[rows]) if bias is None else (conv.inputs[0], weight[rows], bias[rows])
    return Op("Conv", inputs, attributes(conv), shape=(batch, wanted, 1, length))


REWRITE = Rewrite("attention", rewrite, ("Reshape",))
