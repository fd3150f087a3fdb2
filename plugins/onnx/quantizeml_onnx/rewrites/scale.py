"""A positive factor behind a bound, a slope or a maximum goes in front of it, where a convolution takes it in.

    c clip(x; a, b) = clip(c x; c a, c b)     c relu(x) = relu(c x)     c leaky(x) = leaky(c x)     c max(x) = max(c x)     c > 0, one number
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from . import linear
from .affine import affine
from .graph import attributes, operand, private, producer, scalar
from .model import Op, Proposal, Refusal, Rewrite

HOMOGENEOUS = ("Clip", "LeakyRelu", "MaxPool", "Relu")


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The factor on the other side, where a convolution or a dense layer waits for it."""
    found = affine(node)
    bound = None if found is None else producer(found.data, *HOMOGENEOUS)
    if bound is None or found.scale.size != 1 or found.offset.any() or not private(found.data) or linear.linear_producer(bound.inputs[0]) is None:
        return None
    factor = found.scale.reshape(())
    if not factor > 0:
        return Refusal("its factor is not positive: it would turn the bound round")
    ends = [None if v is None else np.asarray(scalar(v) * factor) for v in (operand(bound, i) for i in range(1, len(bound.inputs)))]
    if bound.op_type == "Clip" and "min" in bound.attributes or any(e is None for e in ends[1:]):
        return Refusal("its bounds are computed by the model")
    scaled = Op("Mul", (bound.inputs[0], factor), shape=tuple(bound.inputs[0].shape) if bound.inputs[0].shape is not None else None)
    return Proposal((bound, node), Op(bound.op_type, (scaled, *ends), attributes(bound), name=bound.name or ""))


REWRITE = Rewrite("scale_before_bound", rewrite, ("Mul", "Div"))
