"""Networks over time, (N, C, L), run as images of one row, (N, C, 1, L): what looks along the last axis gets a second one, what does not lets it pass.

    op(x) = Squeeze(op'(Unsqueeze(x)))     op(Squeeze(y)) = Squeeze(op(y))     mean(Squeeze(y)) = Flatten(GlobalAveragePool(y))
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .functions import ACTIVATIONS
from .graph import Dims, attribute, attributes, constant, dims, ints, is_constant, producer, rank
from .kernels import one_row
from .model import Expression, Op, Proposal, Refusal, Rewrite

ROW = np.array([2])
"""The axis that a series does not have."""
SLIDING = ("AveragePool", "Conv", "MaxPool")
WINDOWS = (*SLIDING, "BatchNormalization", "GlobalAveragePool")
"""The last two tell no series from a sequence of tokens: they follow what slides."""
ELEMENTWISE = ("Add", "Clamp", "Concat", "Div", "Mul", "PRelu", "Sub", "Sum", *ACTIVATIONS)


def windows(node: ir.Node) -> Proposal | Refusal | None:
    """The same layer on an image of one row."""
    x, before, after = node.inputs[0], dims(node.inputs[0]), dims(node.outputs[0])
    if before is None or after is None or len(before) != 3 or node.op_type not in SLIDING and _squeeze(x) is None:
        return None
    rest: list[Expression | None] = list(node.inputs[1:])
    if node.op_type == "Conv":
        if (weight := constant(node.inputs[1])) is None:
            return Refusal("its weight is computed by the model")
        rest[0] = weight[:, :, None]
    squeeze = _squeeze(x)
    source = Op("Unsqueeze", (x, ROW), shape=_wide(before)) if squeeze is None else squeeze.inputs[0]
    made = Op(node.op_type, (source, *rest), one_row(attributes(node)), name=node.name or "", shape=_wide(after))
    return Proposal((node,), _narrow(node, made), () if squeeze is None else (squeeze,), "true")


def elementwise(node: ir.Node) -> Proposal | None:
    """The squeeze behind the operation, once all it computes with is squeezed."""
    computed = [v for v in node.inputs if v is not None and not is_constant(v)]
    squeezes = [_squeeze(v) for v in computed]
    after, joins = dims(node.outputs[0]), node.op_type == "Concat"
    if rank(node.outputs[0]) != 3 or None in squeezes or joins and attribute(node, "axis") not in (1, -2):
        return None
    inputs = tuple(v.producer().inputs[0] if v in computed else _spread(v) for v in node.inputs)
    made = Op(node.op_type, inputs, attributes(node) | ({"axis": 1} if joins else {}), node.domain, name=node.name or "", shape=_wide(after))
    return Proposal((node,), _narrow(node, made), tuple(dict.fromkeys(squeezes)), "true")


def mean(node: ir.Node) -> Proposal | None:
    """A mean over time is one over the image."""
    squeeze, axes = _squeeze(node.inputs[0]), ints(node, "axes", 1)
    if squeeze is None or axes not in ((2,), (-1,)):
        return None
    shape = dims(squeeze.inputs[0])
    pooled = Op("GlobalAveragePool", (squeeze.inputs[0],), shape=(*shape[:2], 1, 1))
    made = Op("Squeeze", (pooled, ROW)) if attribute(node, "keepdims", 1) else Op("Flatten", (pooled,), {"axis": 1})
    return Proposal((node,), made, (squeeze,), "true")


def _squeeze(value: ir.Value) -> ir.Node | None:
    """The Squeeze that makes a series of an image of one row."""
    node = producer(value, "Squeeze")
    return node if node is not None and rank(node.inputs[0]) == 4 and ints(node, "axes", 1) in ((2,), (-2,)) else None


def _narrow(node: ir.Node, made: Op) -> Op:
    return Op("Squeeze", (made, ROW), name=f"{node.name}/series")


def _wide(shape: Dims) -> Dims:
    return (*shape[:2], 1, shape[2])


def _spread(value: ir.Value | None) -> Expression | None:
    """A constant that varies over channels or time, for an image of one row."""
    array = None if value is None else constant(value)
    return value if array is None or array.ndim < 2 else array[..., None, :]


WINDOWS_TO_ROW = Rewrite("series_as_image", windows, WINDOWS)
ELEMENTS_TO_ROW = Rewrite("series_element_by_element", elementwise, ELEMENTWISE)
MEAN_TO_ROW = Rewrite("series_mean", mean, ("ReduceMean",))
