"""Shape arithmetic that ends in a Reshape becomes the constant it always computes.

    Reshape(x, f(Shape(x), ...)) = Reshape(x, c)

Every element of f that does not depend on the batch is a constant; the element at axis 0 that equals the batch is written 0 (copied).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .evaluate import Unprovable, evaluate, trace
from .graph import attributes, constant, dims, is_constant
from .model import Op, Proposal, Refusal, Rewrite

LONGEST = 32
BATCHES = (2, 3)


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Reshape by a constant."""
    if is_constant(node.inputs[1]):
        return None
    chain = _chain(node)
    if chain is None:
        return Refusal("its target shape is computed from more than shapes")
    first, second = (_target(chain, node.inputs[1], batch) for batch in BATCHES)
    if isinstance(first, str):
        return Refusal(first)
    target = np.where(first == second, first, 0)
    if any(f != s and (i or f != BATCHES[0]) for i, (f, s) in enumerate(zip(first, second, strict=True))) or 0 in first:
        return Refusal(f"its target shape ({', '.join(map(str, first))} for a batch of {BATCHES[0]}) mixes the batch with other sizes")
    return Proposal((node,), Op("Reshape", (node.inputs[0], target), shape=_shape(node.inputs[0], target)), chain, "true")


def _chain(node: ir.Node) -> tuple[ir.Node, ...] | None:
    """The nodes that compute the target shape, in topological order; each path ends in a Shape node or a constant."""
    found: dict[ir.Node, None] = {}

    def visit(value: ir.Value | None) -> bool:
        if value is None or is_constant(value):
            return True
        made = value.producer()
        if made is None or len(found) > LONGEST:
            return False
        if made not in found:
            if made.op_type != "Shape" and not all(visit(v) for v in made.inputs):
                return False
            found[made] = None
        return True

    return tuple(found) if visit(node.inputs[1]) else None


def _target(chain: tuple[ir.Node, ...], wanted: ir.Value, batch: int) -> np.ndarray | str:
    """The target shape for a batch of this size, or why it is not known."""
    env: dict[ir.Value, np.ndarray] = {}
    try:
        for node in chain:
            inputs = [None if v is None else trace(env[v] if v in env else _known(v, batch)) for v in node.inputs]
            env[node.outputs[0]] = evaluate(node.op_type, inputs, attributes(node)).array
    except (Unprovable, ValueError, IndexError, TypeError) as error:
        return f"its target shape cannot be computed: {error}"
    return env[wanted].reshape(-1).astype(np.int64)


def _known(value: ir.Value, batch: int) -> np.ndarray:
    if is_constant(value):
        return constant(value)
    shape = dims(value)
    if shape is None or None in shape[1:]:
        raise ValueError(f"the shape of `{value.name}` is not known")
    return np.broadcast_to(0.0, tuple(batch if d is None else d for d in shape))


def _shape(value: ir.Value, target: np.ndarray) -> tuple[int | None, ...] | None:
    before = dims(value)
    if before is None or None in before[1:] or (target == -1).sum() > 1:
        return None
    wanted = [BATCHES[0] if d == 0 and not i else int(d) for i, d in enumerate(target)]
    after = np.broadcast_to(False, (BATCHES[0], *before[1:])).reshape(wanted).shape
    return (None, *after[1:]) if before[0] is None else None


REWRITE = Rewrite("fold_shape_arithmetic", rewrite, ("Reshape",))
