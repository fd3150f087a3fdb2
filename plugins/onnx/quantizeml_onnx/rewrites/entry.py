"""Rescaling at a model input: any chain of constant Mul, Div, Add, Sub and BatchNormalization becomes at most one Mul, then one Add.

    s2 * (s1 x + o1) + o2 = (s2 s1) x + (s2 o1 + o2)

Two steps are merged at a time. Steps that only rename (Cast, Transpose and the Reshape that is a transposition) may stand before them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from . import batch_normalization
from .affine import ANCHORS, Affine, affine
from .graph import data_input, dims, private, rank
from .model import Expression, Op, Proposal, Refusal, Rewrite

PASSED = (*ANCHORS, "BatchNormalization", "Cast", "Transpose", "Reshape", "Unsqueeze")


def from_input(value: ir.Value, alone: bool = False) -> bool:
    """Whether only entry steps stand between a model input and a value; `alone`: and nothing else reads what is between them."""
    while (node := value.producer()) is not None:
        before = data_input(node) if node.op_type in PASSED and not node.domain else None
        if before is None or alone and not private(value):
            return False
        value = before
    return value.is_graph_input() and (private(value) or not alone)


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Two steps merged into Mul and Add, or one Div, Sub or BatchNormalization spelled with them."""
    second = _step(node)
    if second is None or not from_input(second.data):
        return None
    before = second.data.producer()
    first = None if before is None else _step(before)
    if first is None:
        return None if node.op_type in ("Mul", "Add") else Proposal((node,), _spelled(second))
    if before.op_type == "Mul" and node.op_type == "Add":
        return None
    return Proposal((before, node), _spelled(Affine(first.data, first.scale * second.scale, first.offset * second.scale + second.offset)))


def _step(node: ir.Node) -> Affine | None:
    if node.op_type != "BatchNormalization":
        return affine(node)
    found, data_rank = batch_normalization.affine(node), rank(node.inputs[0])
    if isinstance(found, Refusal) or data_rank is None:
        return None
    return Affine(node.inputs[0], *(c.reshape(-1, *(1,) * (data_rank - 2)) for c in found))


def _spelled(found: Affine) -> Expression:
    """Mul, then Add, leaving out what does nothing."""
    shape, value = dims(found.data), found.data
    if (found.scale != 1).any():
        value = Op("Mul", (value, np.asarray(found.scale)), shape=shape)
    if np.any(found.offset):
        value = Op("Add", (value, np.asarray(found.offset)), shape=shape)
    return replace(value, shape=None) if isinstance(value, Op) else value


REWRITE = Rewrite("normalize_entry", rewrite, (*ANCHORS, "BatchNormalization"))
