"""Attention spelled out on sequences becomes one operation on their images of one row.

    f(softmax(Q K scale + mask) V) = S Attention(q, k, v)          f: reshapes and transpositions to a sequence (`rows`)

Q, K and V are pictures of images: reached from a sequence S x by reshapes, transpositions, slices and factors, whatever their order and number.
Each picture is a list of axes, each axis a list of factors (dimension, size, stride) of the image; a fused projection of queries, keys and values leaves an
offset along the channels, which the 1x1 convolution that wrote them is cut at. What f makes of the product is a picture too, of the attention's result.
Reshapes of the scores and of their softmax put axes together and apart; the proof of the whole decides about them. A mask is a constant, added to the scores or put in their place by Where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quantizeml_core.attention import LOWEST, whole_mask
from quantizeml_core.pictures import Axes, channels, heads, regroup, sequence_axes

from .functions import DOMAIN
from .graph import attribute, attributes, constant, dims, in_order, is_constant, operand, producer, scalar, stored
from .model import Op, Proposal, Refusal, Rewrite
from .rows import FORMS, Lens, as_sequence, lens_of, perm_of, sequence
from .static_reshape import target_chain


@dataclass(frozen=True)
class Picture:
    """What a tensor shows of a sequence: axes of factors (`n`, `t` or `c`; size; stride), an offset along the channels, a factor of the values."""

    of: Lens | Product
    axes: Axes
    offset: int = 0
    scale: float = 1.0
    nodes: tuple[ir.Node, ...] = ()


@dataclass(frozen=True)
class Product:
    """softmax(scores) V, and what it is made of; `reason` when it is not one that an attention computes."""

    operands: tuple[Picture, ...]
    heads: int
    scale: float
    mask: np.ndarray | None
    nodes: tuple[ir.Node, ...]
    reason: str = ""


def picture(value: ir.Value | None) -> Picture | None:
    """The picture that a tensor is, None when it is none."""
    lens = sequence(value)
    if lens is not None:
        batch, width, _, length = dims(lens.image)
        return Picture(lens, sequence_axes(batch, length, width))
    node = None if value is None or value.producer() is None or value.producer().domain else value.producer()
    if node is not None and node.op_type == "MatMul" and _softmax(node.inputs[0])[0]:
        return _of_product(node)
    change = None if node is None else CHANGES.get(node.op_type)
    source = None if change is None else next((v for v in node.inputs if v is not None and constant(v) is None), None)
    before = None if source is None else picture(source)
    if before is None or isinstance(before.of, Product) and before.of.reason:
        return before
    after = change(node, before) if node.op_type != "Split" else _part(node, before, value)
    return None if after is None else replace(after, nodes=(*before.nodes, node))


# ---- what an operation makes of a picture

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


def _multiplied(node: ir.Node, before: Picture) -> Picture | None:
    factor = _factor(node)
    return None if factor is None else replace(before, scale=before.scale * factor)


def _factor(node: ir.Node) -> float | None:
    """The number that a Mul or a Div multiplies its other operand by."""
    found = next((f for v in node.inputs if (f := scalar(v)) is not None), None)
    if found is None or node.op_type == "Div" and scalar(node.inputs[1]) is None:
        return None
    return found if node.op_type == "Mul" else 1 / found


CHANGES = {"Reshape": _reshaped, "Transpose": _transposed, "Gather": _gathered, "Slice": _sliced, "Squeeze": _reshaped, "Unsqueeze": _reshaped,
           "Mul": _multiplied, "Div": _multiplied, "Split": _part}


# ---- the product of a softmax and its values

def _of_product(node: ir.Node) -> Picture | None:
    """The result of an attention, (N, heads, T, C / heads) or with batch and heads as one axis, as a picture of a sequence."""
    found = _product(node)
    if found is None:
        return None
    if found.reason:
        return Picture(found, ())
    batch, _, _, length = dims(found.operands[0].of.image)
    width, whole = channels(found.operands[2].axes), dims(node.outputs[0])
    split = regroup(sequence_axes(batch, length, width), (batch, length, found.heads, width // found.heads))
    apart = (split[0], split[2], split[1], split[3])
    return Picture(found, apart if len(whole) == 4 else ((*split[0], *split[2]), split[1], split[3]))


def _product(mean: ir.Node) -> Product | None:
    softmax, regrouped = _softmax(mean.inputs[0])
    rank, own = (len(dims(n.outputs[0]) or ()) for n in (mean, softmax))
    if rank not in (3, 4) or attribute(softmax, "axis", -1) not in (-1, own - 1):
        return None
    inner, scale, mask, scores = _scores(softmax.inputs[0])
    if scores is None:
        return Product((), 0, 0.0, None, (mean,), "its scores are no product of queries and keys, or a mask that is computed is added to them")
    operands = tuple(picture(v) for v in (*scores.inputs, mean.inputs[1]))
    if not all(operands) or not all(isinstance(p.of, Lens) for p in operands):
        return None
    count, reason = _heads(*operands), ""
    if count is None or operands[2].scale != 1:
        reason = "its queries, keys and values do not split the channels into heads of one size"
    elif not all(_whole(p) or _cuttable(p) for p in operands):
        reason = "its queries, keys and values are parts of something else than the output of one dense layer"
    elif isinstance(mask := _mask(mask, count, operands), str):
        reason = mask
    nodes = (*(n for p in operands for n in p.nodes), scores, *inner, softmax, *regrouped, mean)
    return Product(operands, count or 0, scale * operands[0].scale * operands[1].scale, mask, nodes, reason)


def _softmax(value: ir.Value) -> tuple[ir.Node | None, tuple[ir.Node, ...]]:
    """The softmax whose weights a tensor holds, and the reshapes between."""
    node, found = value.producer(), ()
    while node is not None and not node.domain and node.op_type in REGROUPS:
        found, node = (node, *found), node.inputs[0].producer()
    return (node, found) if node is not None and node.op_type == "Softmax" and not node.domain else (None, ())


def _scores(value: ir.Value) -> tuple[tuple[ir.Node, ...], float, np.ndarray | None, ir.Node | None]:
    """What stands between the product of queries and keys and the softmax: the nodes, a factor, a mask, and that product."""
    node, found, scale, mask = value.producer(), [], 1.0, None
    while node is not None and not node.domain and node.op_type in STEPS:
        step = STEPS[node.op_type](node)
        if step is None:
            return (), scale, mask, None
        data, factor, added = step
        mask = mask if added is None else added * scale if mask is None else mask + added * scale
        scale, node, found = scale * factor, data.producer(), [node, *found]
    return tuple(found), scale, mask, node if node is not None and node.op_type == "MatMul" and not node.domain else None


Step = tuple[ir.Value, float, "np.ndarray | None"]


def _scaled(node: ir.Node) -> Step | None:
    factor = _factor(node)
    return None if factor is None else (next(v for v in node.inputs if not is_constant(v)), factor, None)


def _added(node: ir.Node) -> Step | None:
    known = next((v for v in node.inputs if is_constant(v)), None)
    return None if known is None else (next((v for v in node.inputs if not is_constant(v)), known), 1.0, constant(known))


def _chosen(node: ir.Node) -> Step | None:
    """Where(seen, scores, lowest), or with the two in the other order."""
    seen = stored(node.inputs[0])
    data, lowest = (node.inputs[1], scalar(node.inputs[2])) if is_constant(node.inputs[2]) else (node.inputs[2], scalar(node.inputs[1]))
    if seen is None or lowest is None or lowest > LOWEST:
        return None
    return data, 1.0, np.where(seen if data is node.inputs[1] else ~seen, 0.0, -np.inf)


def _regrouped(node: ir.Node) -> Step | None:
    """Axes of scores put together or apart: what comes out is proven, not followed."""
    return node.inputs[0], 1.0, None


REGROUPS = ("Reshape", "Squeeze", "Unsqueeze")
STEPS: dict[str, Callable[[ir.Node], Step | None]] = {
    **dict.fromkeys(REGROUPS, _regrouped),
    "Mul": _scaled, "Div": _scaled, "Add": _added, "Where": _chosen}


def _mask(mask: np.ndarray | None, count: int, operands: Sequence[Picture]) -> np.ndarray | str | None:
    """(1 or heads, queries, keys), None without one; or why it is not supported."""
    if mask is None:
        return None
    return whole_mask(mask, count, *(dims(p.of.image)[3] for p in operands[:2]))


def _heads(q: Picture, k: Picture, v: Picture) -> int | None:
    """Number of heads when each operand has its axes where an attention wants them."""
    (batch, _, _, queries), (*_, keys) = dims(q.of.image), dims(k.of.image)
    return heads(*(_apart(p.axes) for p in (q, k, v)), batch, (queries, keys)) if dims(v.of.image)[3] == keys else None


def _apart(axes: Axes) -> Axes:
    """Batch and heads as two axes, where they are one."""
    return axes if len(axes) != 3 else (axes[0][:1], axes[0][1:], *axes[1:])


# ---- the rewrites

def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The whole attention, from the pictures of its operands to the sequence of its result."""
    found = picture(node.outputs[0])
    if found is None or not isinstance(found.of, Product):
        return None
    product = found.of
    if product.reason:
        return Refusal(product.reason) if node.inputs[0] is product.nodes[-1].outputs[0] else None
    form = _form(found, *(dims(product.operands[0].of.image)[i] for i in (0, 3)), channels(product.operands[2].axes))
    if form is None or found.scale != 1:
        return None
    nodes = in_order((*product.nodes, *found.nodes))
    context = in_order((*(n for p in product.operands for n in (*_cuttable(p), *p.of.nodes)), *_targets(nodes)))
    return Proposal(nodes, form(_attention(product)), context, "true")


def straighten(node: ir.Node) -> Proposal | Refusal | None:
    """A sequence that reshapes and transpositions lead back to, in one of its forms."""
    found = picture(node.outputs[0])
    if found is None or not isinstance(found.of, Lens) or found.scale != 1 or not _whole(found) or len(found.nodes) < 2 or lens_of(node.outputs[0]):
        return None
    batch, width, _, length = shape = dims(found.of.image)
    form = _form(found, batch, length, width)
    if form is None:
        return None
    context = in_order((*found.of.nodes, *found.nodes[:-1], *_targets(found.nodes)))
    image = Op("Identity", (found.of.image,), shape=shape)
    return Proposal(found.nodes[-1:], found.of.nodes[-1].outputs[0] if form is as_sequence else form(image), context, "true")


def _targets(nodes: Sequence[ir.Node]) -> tuple[ir.Node, ...]:
    """The nodes that compute the shapes of reshapes."""
    return tuple(n for node in nodes if node.op_type == "Reshape" and not is_constant(node.inputs[1]) for n in target_chain(node) or ())


def _form(found: Picture, batch: int | None, length: int, width: int) -> Callable[[Op], Op] | None:
    """How the result of an attention is put into the shape of a sequence that a picture has."""
    n, t, c = sequence_axes(batch, length, width)
    return next((back for order, back in FORMS if found.axes == order(n, t, c)), None)


def _attention(product: Product) -> Op:
    tensors = [_cut(p) for p in product.operands]
    (batch, _, _, length), values = dims(product.operands[0].of.image), channels(product.operands[2].axes)
    given = (*tensors, np.array([0, product.heads, -1, length]), np.array(product.scale), np.array([0, values, 1, length]))
    name, mask = ("Attention", ()) if product.mask is None else ("MaskedAttention", (product.mask,))
    return Op(name, (*given, *mask), domain=DOMAIN, shape=(batch, values, 1, length))


def _whole(p: Picture) -> bool:
    return channels(p.axes) == dims(p.of.image)[1]


def _cuttable(p: Picture) -> tuple[ir.Node, ...]:
    """The convolution whose filters are cut at, once nothing has still to be folded into it; none for a whole image."""
    conv = None if _whole(p) else producer(p.of.image, "Conv")
    return () if conv is None or attribute(conv, "group", 1) != 1 or constant(conv.inputs[1]) is None else (conv,)


def _cut(p: Picture) -> ir.Value | Op:
    """The channels that a picture shows: the image, or the convolution that wrote it with some of its filters."""
    image, wanted = p.of.image, channels(p.axes)
    batch, _, _, length = dims(image)
    if _whole(p):
        return image
    conv = producer(image, "Conv")
    weight, bias = constant(conv.inputs[1]), constant(operand(conv, 2))
    rows = slice(p.offset, p.offset + wanted)
    inputs = (conv.inputs[0], weight[rows]) if bias is None else (conv.inputs[0], weight[rows], bias[rows])
    return Op("Conv", inputs, attributes(conv), shape=(batch, wanted, 1, length))


REWRITE = Rewrite("attention", rewrite, ("Reshape", "Transpose", "MatMul"))
STRAIGHTEN = Rewrite("straighten_sequence", straighten, ("Reshape", "Transpose", "Squeeze", "Unsqueeze"))
