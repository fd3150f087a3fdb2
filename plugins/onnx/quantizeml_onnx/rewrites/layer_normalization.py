"""A LayerNormalization spelled out, as exporters below opset 17 do, becomes one.

    d = x - mean(x)          y = d / sqrt(mean(d^2) + epsilon) * gamma + beta

Means run over the last axis; d may be computed once or twice, its square be a power or a product.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import constant, dims, ints, operand, producer, rank, scalar
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


def _constant(node: ir.Node) -> np.ndarray | None:
    return next((c for v in node.inputs if (c := constant(v)) is not None), None)


def scalar_of(node: ir.Node) -> float | None:
    """The constant operand of a node when it is one number."""
    return next((s for v in node.inputs if (s := scalar(v)) is not None), None)


def _last(mean: ir.Node) -> bool:
    axes = ints(mean, "axes", 1)
    return axes in ((-1,), ((rank(mean.inputs[0]) or 0) - 1,)) and operand(mean, 0) is not None


REWRITE = Rewrite("layer_normalization", rewrite, ("Add",))
