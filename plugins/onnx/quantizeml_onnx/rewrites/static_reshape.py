"""Shape arithmetic that ends in a Reshape becomes the constant it always computes.

    Reshape(x, f(Shape(x), ...)) = Reshape(x, c)

Every element of f that does not depend on the batch is a constant; the element at axis 0 that equals the batch is written 0 (copied), one anywhere
else that is a multiple of the batch -1 (what is left).
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from .evaluate import Unprovable, evaluate, trace
from .graph import attribute, attributes, constant, dims, in_order, is_constant
from .model import Op, Proposal, Refusal, Rewrite

LONGEST = 32
BATCHES = (2, 3)


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Reshape by a constant."""
    if is_constant(node.inputs[1]):
        return None
    chain = target_chain(node)
    if chain is None:
        return Refusal("its target shape is computed from more than shapes")
    first, second = (_target(chain, node, batch) for batch in BATCHES)
    if isinstance(first, str):
        return Refusal(first)
    copied = first[0] == BATCHES[0] != second[0] and _keeps_batch(dims(node.inputs[0]), first[1:])
    target = np.where(first == second, first, -1)
    target[:1] = 0 if copied else target[:1]
    if not (first * BATCHES[1] == second * BATCHES[0])[first != second].all() or 0 in first or (target == -1).sum() > 1:
        return Refusal(f"its target shape ({', '.join(map(str, first))} for a batch of {BATCHES[0]}) mixes the batch with other sizes")
    origin = () if copied or (dims(node.inputs[0]) or (0,))[0] is not None else _origin(node.inputs[0])
    return Proposal((node,), Op("Reshape", (node.inputs[0], target), shape=_shape(node.inputs[0], target)), in_order((*chain, *origin)), "true")


def _origin(value: ir.Value) -> tuple[ir.Node, ...]:
    """The nodes back to the reshapes that mixed the batch with something else: behind them nothing shows how large it is."""
    found: dict[ir.Node, None] = {}

    def visit(node: ir.Node | None) -> None:
        if node is None or node in found or len(found) > LONGEST:
            return
        found.setdefault(node)
        for before in () if node.op_type == "Reshape" else node.predecessors():
            visit(before)

    visit(value.producer())
    reached = any(n.op_type == "Reshape" for n in found)
    return tuple(found) if reached and len(found) <= LONGEST else ()


def _keeps_batch(before: tuple[int | None, ...] | None, rest: np.ndarray) -> bool:
    """Whether axis 0 is the batch in front and behind, the other sizes being `rest`, of which one may be -1."""
    if not before or before[0] is not None or None in before[1:]:
        return False
    return prod(before[1:]) == prod(rest) or -1 in rest and prod(before[1:]) % prod(rest) == 0


def target_chain(node: ir.Node) -> tuple[ir.Node, ...] | None:
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


def _target(chain: tuple[ir.Node, ...], reshape: ir.Node, batch: int) -> np.ndarray | str:
    """The target shape for a batch of this size, or why it is not known. A 0 is the size it copies, a -1 beside a size that depends on the batch what it stands for."""
    env: dict[ir.Value, np.ndarray] = {}
    try:
        for node in chain:
            inputs = [None if v is None else trace(env[v] if v in env else _known(v, batch)) for v in node.inputs]
            env[node.outputs[0]] = evaluate(node.op_type, inputs, attributes(node)).array
    except (Unprovable, ValueError, IndexError, TypeError) as error:
        return f"its target shape cannot be computed: {error}"
    target, before = env[reshape.inputs[1]].reshape(-1).astype(np.int64), dims(reshape.inputs[0])
    if before is not None and before.count(None) <= 1 and not attribute(reshape, "allowzero", 0):
        sizes = np.array([batch if d is None else d for d in before])[: len(target)]
        target[: len(sizes)] = np.where(target[: len(sizes)] == 0, sizes, target[: len(sizes)])
    if before is None or before.count(None) != 1 or 0 in target or (target == -1).sum() != 1:
        return target
    size = prod(batch if d is None else d for d in before)
    return target if size % prod(target) else np.where(target == -1, -size // prod(target), target)


def _known(value: ir.Value, batch: int) -> np.ndarray:
    if is_constant(value):
        return constant(value)
    shape = dims(value)
    if shape is None or shape.count(None) > 1:
        raise ValueError(f"the shape of `{value.name}` is not known")
    return np.broadcast_to(0.0, tuple(batch if d is None else d for d in shape))


def _shape(value: ir.Value, target: np.ndarray) -> tuple[int | None, ...] | None:
    """The shape behind, None where it depends on the batch; None for rows of which a sample has several."""
    before = dims(value)
    if before is None or before.count(None) > 1:
        return None
    sizes = [np.broadcast_to(False, tuple(batch if d is None else d for d in before)) for batch in BATCHES]
    try:
        first, second = (whole.reshape([whole.shape[i] if d == 0 else d for i, d in enumerate(target)]).shape for whole in sizes)
    except ValueError:
        return None
    return tuple(f if f == s else None for f, s in zip(first, second, strict=True))


REWRITE = Rewrite("fold_shape_arithmetic", rewrite, ("Reshape",))
