"""Sums of tensors of which one is a single pixel or a single channel of the other: it is repeated.

    x + g = x + Resize(g; H, W times)     g (N, C, 1, 1)          x + p = x + Gather(p; C times channel 0)     p (N, 1, H, W)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import Dims, dims, is_constant
from .model import Expression, Op, Proposal, Rewrite
from .pieces import repeated


def rewrite(node: ir.Node) -> Proposal | None:
    """The sum of two tensors of one shape."""
    shapes = [dims(v) for v in node.inputs]
    if any(is_constant(v) for v in node.inputs) or any(s is None or len(s) != 4 or None in s[1:] for s in shapes) or shapes[0][1:] == shapes[1][1:]:
        return None
    wide = (shapes[0][0], *map(max, *(s[1:] for s in shapes)))
    return Proposal((node,), Op("Add", tuple(_spread(v, s, wide) for v, s in zip(node.inputs, shapes, strict=True)), shape=wide), extent="true")


def _spread(x: ir.Value, shape: Dims, wide: Dims) -> Expression:
    made: Expression = x
    if shape[1] != wide[1]:
        made = Op("Gather", (made, np.zeros(wide[1], np.int64)), {"axis": 1}, shape=(*wide[:2], *shape[2:]))
    if shape[2:] != wide[2:]:
        made = repeated(made, [large // small for small, large in zip(shape[2:], wide[2:], strict=True)], wide)
    return made


REWRITE = Rewrite("broadcast_sum", rewrite, ("Add",), last=True)
