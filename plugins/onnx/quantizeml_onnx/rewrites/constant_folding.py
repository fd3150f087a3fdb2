"""An operation on constants is a constant, computed in float64 and rounded once.

    y = f(c1, c2, ...)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .evaluate import OPS, Unprovable, evaluate, trace
from .graph import attributes, constant, is_constant
from .model import Proposal, Refusal, Rewrite

LARGEST = 1 << 26
"""Numbers a folded constant may have."""


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The value of a node all of whose inputs are constants."""
    given = [v for v in node.inputs if v is not None]
    if not given or node.domain or node.op_type not in OPS or not all(is_constant(v) for v in given):
        return None
    value = _value(node)
    if isinstance(value, str):
        return Refusal(value)
    return Proposal((node,), _typed(value, node)) if value.size <= LARGEST else Refusal(f"its result has {value.size} numbers")


def _value(node: ir.Node) -> np.ndarray | str:
    try:
        inputs = [None if v is None else trace(constant(v)) for v in node.inputs]
        return evaluate(node.op_type, inputs, attributes(node)).array
    except (Unprovable, ValueError, IndexError, TypeError) as error:
        return f"it cannot be computed: {error}"


def _typed(value: np.ndarray, node: ir.Node) -> np.ndarray:
    dtype = node.outputs[0].dtype
    return value if dtype is None or value.dtype.kind == "f" else value.astype(dtype.numpy())


REWRITE = Rewrite("fold_constants", rewrite)
