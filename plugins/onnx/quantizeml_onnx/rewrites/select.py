"""Taking channels of an image, in another order, is one Gather along the channels.

    Slice(x; channels) = Gather(x, i)     Concat(x, x) = Gather(x, (i, i))     Reshape(Transpose(Reshape(x; g, C / g); swapped)) = Gather(x, i): a shuffle of channels
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from .graph import attribute, dims, ints, producer, stored
from .model import Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The Gather."""
    x = node.inputs[0]
    before = dims(x)
    if node.op_type == "Slice":
        return _taken(node, before) if before is not None and len(before) == 4 else None
    if node.op_type == "Concat":
        return _repeated(node, before) if before is not None and len(before) == 4 and before[1] is not None else None
    turn = producer(x, "Transpose")
    first = None if turn is None else producer(turn.inputs[0], "Reshape")
    return None if first is None else _shuffled(first, turn, node)


def _taken(node: ir.Node, shape: tuple[int | None, ...]) -> Proposal | Refusal | None:
    starts, ends, axes, steps = (ints(node, name, i) for i, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None or [a % 4 for a in axes or range(len(starts))] != [1]:
        return None
    if shape[1] is None:
        return Refusal("its input has an unknown number of channels")
    return _gather((node,), node.inputs[0], np.arange(shape[1])[slice(starts[0], ends[0], (steps or (1,))[0])])


def _repeated(node: ir.Node, shape: tuple[int | None, ...]) -> Proposal | None:
    if len(set(node.inputs)) > 1 or attribute(node, "axis") not in (1, -3):
        return None
    return _gather((node,), node.inputs[0], np.tile(np.arange(shape[1]), len(node.inputs)))


def _shuffled(first: ir.Node, turn: ir.Node, last: ir.Node) -> Proposal | None:
    """Two axes that the channels are split into change places; height and width stay."""
    x, apart = first.inputs[0], dims(first.outputs[0])
    before, after, perm = dims(x), dims(last.outputs[0]), tuple(attribute(turn, "perm", ()))
    if before is None or apart is None or before != after or len(before) != 4 or None in before[1:] or None in apart[1:]:
        return None
    if perm != (0, 2, 1, *range(3, len(apart))) or math.prod(apart[1:3]) != before[1] or stored(first.inputs[1]) is None:
        return None
    return _gather((first, turn, last), x, np.arange(before[1]).reshape(apart[1:3]).T.ravel())


def _gather(nodes: tuple[ir.Node, ...], x: ir.Value, channels: np.ndarray) -> Proposal:
    return Proposal(nodes, Op("Gather", (x, channels.astype(np.int64)), {"axis": 1}), extent="true")


REWRITE = Rewrite("channels_to_gather", rewrite, ("Concat", "Slice", "Reshape"))
