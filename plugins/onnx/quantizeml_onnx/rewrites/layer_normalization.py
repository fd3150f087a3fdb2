"""A LayerNormalization spelled out, as exporters below opset 17 do, becomes one.

    d = x - mean(x)          y = d / sqrt(mean(d^2) + epsilon) * gamma + beta

or, as TensorFlow's exporter writes it, y = x r + (beta - mean r), r = gamma / sqrt(mean(d^2) + epsilon). Means run over the last axis; d may be computed once or twice, its square be a power or a product.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import constant, dims, in_order, ints, operand, producer, rank, scalar
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """From the last addition backwards."""
    scaled = next((p for v in node.inputs if (p := producer(v, "Mul"))), None)
    quotient = None if scaled is None else next((p for v in scaled.inputs if (p := producer(v, "Div"))), None)
    beta, gamma = _constant(node), None if scaled is None else _constant(scaled)
    if quotient is None or beta is None or gamma is None:
        return None
    root = producer(quotient.inputs[1], "Sqrt")
    total = None if root is None else producer(root.inputs[0], "Add")
    variance = None if total is None else next((p for v in total.inputs if (p := producer(v, "ReduceMean"))), None)
    square = None if variance is None else producer(variance.inputs[0], "Pow", "Mul")
    if square is None or scalar_of(total) is None or not (_last(variance)):
        return None
    differences = [producer(v, "Sub") for v in (quotient.inputs[0], square.inputs[0])]
    means = [None if d is None else producer(d.inputs[1], "ReduceMean") for d in differences]
    if not all(means) or not all(_last(m) and m.inputs[0] is d.inputs[0] is differences[0].inputs[0] for m, d in zip(means, differences, strict=True)):
        return None
    x = differences[0].inputs[0]
    if gamma.shape != (dims(x) or (0,))[-1:] or beta.shape != gamma.shape:
        return None
    nodes = (*means, *differences, square, variance, total, root, quotient, scaled, node)
    new = Op("LayerNormalization", (x, gamma, beta), {"axis": -1, "epsilon": scalar_of(total)})
    return Proposal(tuple(dict.fromkeys(nodes)), new, extent="true")


def factored(node: ir.Node) -> Proposal | Refusal | None:
    """TensorFlow's form: x r + (beta - mean r), r = gamma / sqrt(variance + epsilon), from the addition backwards; beta may be left out."""
    first = next((p for v in node.inputs if (p := producer(v, "Mul")) and _factor(p)), None)
    rest = None if first is None else next((v.producer() for v in node.inputs if v is not first.outputs[0]), None)
    if first is None or rest is None:
        return None
    r = _factor(first)
    x = next(v for v in first.inputs if v is not r.outputs[0])
    beta, product = (None, rest) if rest.op_type == "Mul" else (constant(rest.inputs[0]), producer(rest.inputs[1], "Mul")) if rest.op_type == "Sub" else (None, None)
    if product is None or r.outputs[0] not in product.inputs:
        return None
    shown = next(v for v in product.inputs if v is not r.outputs[0])
    negative = producer(shown, "Neg")
    mean = _mean(negative.inputs[0] if negative is not None else shown)
    inverse = next((p for v in r.inputs if (p := producer(v, "Reciprocal"))), None)
    root = None if inverse is None else producer(inverse.inputs[0], "Sqrt")
    total = None if root is None else producer(root.inputs[0], "Add")
    variance = None if total is None else next((m for v in total.inputs if (m := _mean(v))), None)
    square = None if variance is None else producer(variance.inputs[0], "Pow", "Mul")
    difference = None if square is None else producer(square.inputs[0], "Sub")
    gamma, channels = _constant(r), (dims(x) or (0,))[-1:]
    missing = any(part is None for part in (mean, difference, gamma, total and scalar_of(total)))
    if missing or (negative is None) != (rest.op_type == "Sub"):
        return None
    if gamma.size != channels[0] or beta is not None and beta.size != channels[0] or mean.inputs[0] is not x:
        return None
    nodes = (mean, *([] if negative is None else [negative]), difference, square, variance, total, root, inverse, r, first, product, rest, node)
    new = Op("LayerNormalization", (x, gamma.reshape(-1), np.zeros(channels) if beta is None else beta.reshape(-1)), {"axis": -1, "epsilon": scalar_of(total)})
    return Proposal(in_order(nodes), new, extent="true")


def _factor(product: ir.Node) -> ir.Node | None:
    """gamma / sqrt(...) among the operands of a product."""
    return next((p for v in product.inputs if (p := producer(v, "Mul")) and any(producer(w, "Reciprocal") for w in p.inputs)), None)


def _mean(value: ir.Value) -> ir.Node | None:
    """The node that means over the last of three axes: a GlobalAveragePool does that too."""
    node = producer(value, "ReduceMean", "GlobalAveragePool")
    last = node is not None and (_last(node) if node.op_type == "ReduceMean" else rank(node.inputs[0]) == 3)
    return node if last else None


def _constant(node: ir.Node) -> np.ndarray | None:
    return next((c for v in node.inputs if (c := constant(v)) is not None), None)


def scalar_of(node: ir.Node) -> float | None:
    """The constant operand of a node when it is one number."""
    return next((s for v in node.inputs if (s := scalar(v)) is not None), None)


def _last(mean: ir.Node) -> bool:
    axes = ints(mean, "axes", 1)
    return axes in ((-1,), ((rank(mean.inputs[0]) or 0) - 1,)) and operand(mean, 0) is not None


FACTORED = Rewrite("factored_layer_normalization", factored, ("Add",))
REWRITE = Rewrite("layer_normalization", rewrite, ("Add",))
