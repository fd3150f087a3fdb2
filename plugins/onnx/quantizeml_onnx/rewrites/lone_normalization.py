"""An affine map of the channels that no neighbour can take in, however it is spelled: a depthwise convolution of one pixel.

    s x + o = Conv(x, diag(s)) + o        kernel (C, 1, 1, 1), group C; 4-D tensors only

A chain of BatchNormalization, Mul, Div, Add and Sub with constants is one map. Not at a model input that nothing else reads, where it is a rescaling of the
samples. It comes last: what is left is no part of an activation's spelling, and no convolution takes it in. Only for targets with capability `depthwise2d.pointwise`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from . import batch_normalization
from .affine import ANCHORS, affine
from .entry import from_input
from .graph import dims, per_channel, private
from .model import Op, Proposal, Refusal, Rewrite
from .pieces import unpadded


@dataclass(frozen=True, eq=False)
class Map:
    """scale x + offset, (C,) each, and the nodes that spell it."""

    x: ir.Value
    scale: np.ndarray
    offset: np.ndarray
    nodes: tuple[ir.Node, ...]


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """The depthwise convolution."""
    found = None if _goes_on(node) else _chain(node)
    if found is None or from_input(found.x, alone=True) and found.scale.all():
        return None
    shape = dims(found.x)
    if shape is None or len(shape) != 4 or shape[1] is None:
        return Refusal("its input is not 4-D or has an unknown number of channels") if node.op_type == "BatchNormalization" else None
    name = next((n.name for n in found.nodes if n.op_type == "BatchNormalization"), found.nodes[-1].name) or ""
    return Proposal(found.nodes, Op("Conv", (found.x, found.scale.reshape(-1, 1, 1, 1), found.offset), unpadded(groups=shape[1]), name=name, shape=shape))


def _goes_on(node: ir.Node) -> bool:
    """Whether the chain is longer."""
    return private(node.outputs[0]) and any(_map(reader) for reader in node.outputs[0].consumers())


def _chain(node: ir.Node) -> Map | None:
    """The longest chain that ends here."""
    last = _map(node)
    before = None if last is None or not private(last.x) or last.x.producer() is None else _chain(last.x.producer())
    return last if before is None else Map(before.x, before.scale * last.scale, before.offset * last.scale + last.offset, (*before.nodes, node))


def _map(node: ir.Node) -> Map | None:
    if node.op_type == "BatchNormalization":
        found = batch_normalization.affine(node)
        return None if isinstance(found, Refusal) else Map(node.inputs[0], *found, (node,))
    found, shape = affine(node), dims(node.outputs[0])
    if found is None or shape is None or len(shape) != 4 or shape[1] is None:
        return None
    scale, offset = (per_channel(c, 4, shape[1]) for c in (found.scale, found.offset))
    return None if scale is None or offset is None else Map(found.data, scale, offset, (node,))


REWRITE = Rewrite("depthwise_normalization", rewrite, (*ANCHORS, "BatchNormalization"), last=True)
