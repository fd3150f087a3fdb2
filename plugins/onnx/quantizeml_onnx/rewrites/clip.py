"""Everything that bounds a value from below and above becomes one Clip, or Relu when only the bound 0 remains.

    min(max(clip(x; a, b), c), d) = clip(x; min(max(a, c), d), min(max(b, c), d))
    Max(x, c) = clip(x; c, inf)     Min(x, c) = clip(x; -inf, c)     clip(x; 0, inf) = Relu(x)     clip(x; -inf, inf) = x

A bound at the end of the float32 range is none.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from .graph import attribute, data_input, is_constant, operand, producer, scalar
from .model import Expression, Op, Proposal, Refusal, Rewrite

ANCHORS = ("Relu", "Clip", "Min", "Max")
UNBOUNDED = float(np.finfo(np.float32).max)

Bounds = tuple[float, float]


def bounds(node: ir.Node) -> Bounds | None:
    """(lower, upper) of a Relu, Clip, or Min or Max with a scalar constant; None when a bound is computed or varies."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type == "Clip":
        found = _bound(node, "min", 1, -math.inf), _bound(node, "max", 2, math.inf)
        return None if None in found else found
    numbers = [scalar(v) for v in node.inputs if is_constant(v)]
    if len(node.inputs) != 2 or len(numbers) != 1 or numbers[0] is None:
        return None
    return _open(-math.inf, numbers[0]) if node.op_type == "Min" else _open(numbers[0], math.inf)


def _open(low: float, high: float) -> Bounds:
    return (-math.inf if low <= -UNBOUNDED else low), (math.inf if high >= UNBOUNDED else high)


def _bound(node: ir.Node, name: str, index: int, absent: float) -> float | None:
    value = scalar(operand(node, index)) if operand(node, index) is not None else attribute(node, name, absent)
    return value if value is None or abs(value) < UNBOUNDED else math.copysign(math.inf, value)


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """One Clip or Relu in place of one or two bounding operations."""
    own = bounds(node)
    if own is None:
        return Refusal("its bounds are computed by the model or differ between elements") if node.op_type in ("Clip", "Relu") else None
    x = data_input(node)
    before = producer(x, *ANCHORS)
    earlier = None if before is None else bounds(before)
    if earlier is not None:
        merged = tuple(min(max(b, own[0]), own[1]) for b in earlier)
        return Proposal((before, node), _spelled(data_input(before), merged), extent="element")
    normal = node.op_type == "Relu" or node.op_type == "Clip" and own not in ((0.0, math.inf), (-math.inf, math.inf))
    return None if normal else Proposal((node,), _spelled(x, own), extent="element")


def _spelled(x: ir.Value, found: Bounds) -> Expression:
    if found == (0.0, math.inf):
        return Op("Relu", (x,))
    low, high = (np.array(b, np.float64) if math.isfinite(b) else None for b in found)
    return x if low is None and high is None else Op("Clip", (x, low) if high is None else (x, low, high))


REWRITE = Rewrite("normalize_clip", rewrite, ANCHORS)
