"""Folding an affine map of the channels into the Conv or Gemm before it, shared by the rewrites that recognise such maps.

    s * (W x + b) + o = (s W) x + (s b + o)        s, o: one number per filter
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .gemm import DEFAULTS, NORMAL
from .graph import attribute, attributes, constant, is_constant, operand, producer, stored, title
from .model import Op, Proposal, Refusal


def linear_producer(value: ir.Value) -> ir.Node | None:
    """The Conv or Gemm that writes a value."""
    return producer(value, "Conv", "Gemm")


def filters(linear: ir.Node) -> int:
    """Number of output channels of a Conv or a normalized Gemm with a constant weight."""
    return int(linear.inputs[1].const_value.shape[0])


def obstacle(linear: ir.Node) -> str:
    """Why nothing can be folded into a Conv or Gemm, empty when it can."""
    if not all(v is None or is_constant(v) for v in linear.inputs[1:]):
        return f"the weight or the bias of {title(linear)} is computed by the model"
    form = {name: attribute(linear, name, default) for name, default in DEFAULTS.items()}
    return f"{title(linear)} is not in normal form" if linear.op_type == "Gemm" and form != NORMAL else ""


def fold(linear: ir.Node, last: ir.Node, scale: np.ndarray, offset: np.ndarray) -> Proposal | Refusal:
    """Removes `last`, an affine map (scale and offset per filter) of the output of `linear`."""
    if reason := obstacle(linear):
        return Refusal(reason)
    x, weight = linear.inputs[0], stored(linear.inputs[1])  # its product with float64 is one
    bias = constant(operand(linear, 2))
    folded = offset if bias is None else bias.reshape(-1) * scale + offset
    scaled = linear.inputs[1] if (scale == 1).all() else weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    plain = bias is None and not folded.any()
    inputs = (x, scaled) if plain else (x, scaled, folded)
    return Proposal((linear, last), Op(linear.op_type, inputs, attributes(linear), name=linear.name or ""))
