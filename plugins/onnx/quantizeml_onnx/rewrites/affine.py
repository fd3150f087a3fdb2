"""Multiplication, division, addition and subtraction by constants, one per channel, folded into the Conv or Gemm before them.

    x * c, x / c, x + c, x - c, c - x = s x + o
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from . import linear
from .graph import constant, dims, is_constant, per_channel, rank
from .model import Proposal, Refusal, Rewrite

ANCHORS = ("Mul", "Div", "Add", "Sub")


@dataclass(frozen=True, eq=False)
class Affine:
    """scale * data + offset, both broadcast as in ONNX."""

    data: ir.Value
    scale: np.ndarray
    offset: np.ndarray


def affine(node: ir.Node) -> Affine | None:
    """An element-wise operation with one constant operand as an affine map; None for anything else."""
    if node.op_type not in ANCHORS or node.domain or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    if is_constant(left) == is_constant(right) or node.op_type == "Div" and is_constant(left):
        return None
    data, c = (right, constant(left)) if is_constant(left) else (left, constant(right))
    if not _keeps_shape(data, c) or c.dtype.kind != "f":
        return None
    return Affine(data, *_coefficients(node.op_type, c, is_constant(left)))


def _coefficients(op: str, c: np.ndarray, constant_first: bool) -> tuple[np.ndarray, np.ndarray]:
    one, zero = np.ones((1,) * c.ndim), np.zeros((1,) * c.ndim)
    if op in ("Mul", "Div"):
        with np.errstate(divide="ignore"):
            return (c if op == "Mul" else np.asarray(1 / c)), zero
    if op == "Add":
        return one, c
    return (0 - one, c) if constant_first else (one, c * -one)


def _keeps_shape(data: ir.Value, c: np.ndarray) -> bool:
    """Whether broadcasting with the constant leaves the shape of the data as it is."""
    shape = dims(data)
    if shape is None or c.ndim > len(shape):
        return c.size == 1 and c.ndim == 0
    return all(k in (1, d) for k, d in zip(c.shape[::-1], shape[::-1], strict=False))


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The convolution or dense operation with the affine map in its weights."""
    found = affine(node)
    before = None if found is None else linear.linear_producer(found.data)
    if before is None:
        return None
    if reason := linear.obstacle(before):
        return Refusal(reason)
    maps = [per_channel(c, rank(found.data) or 0, linear.filters(before)) for c in (found.scale, found.offset)]
    if maps[0] is None or maps[1] is None:
        return Refusal("its constant varies along other axes than the channels")
    return linear.fold(before, node, *maps)


REWRITE = Rewrite("fold_affine", rewrite, ANCHORS)
