"""Learned step size of weights: each filter's step is trained with its kernel (Esser et al., Learned Step Size Quantization, arXiv 1902.08153).

The step of the output stays, so the step of a filter is its requantization ratio r times that: training log2 r trains the step. What computes is the
nearest ratio that hardware has, an 8-bit mantissa, and the step that belongs to exactly that ratio; the gradient passes this rounding unchanged.

    r = mantissa8(M 2^-f * 2^(v / sqrt(N)))      v: trained, 0 at first, so the integers begin as they were; N: weights of a filter
    step = step_0 * r / (M 2^-f)

N keeps a step, which all weights of a filter pull at, from running ahead of them (section 2.2 of the paper). A saturated weight gives the step no
gradient; its own passes, so that it can come back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from quantizeml_core import numerics
from quantizeml_core.blocks import Block

from ..backend import floor
from ..quantize_ops import Requantization, straight

Tensor = Any


def can_learn(block: Block) -> bool:
    """Whether a block has a ratio of its own, and nothing else on the grid of its accumulator."""
    return "multiplier" in block.arrays and not {"table", "bound"} & set(block.arrays)


class LearnedStep:
    """The trained ratios of one layer.

    Arguments:
        exponent: (F,) v, a trained weight.
        weights: N, of one filter.
    """

    def __init__(self, block: Block, exponent: Any, weights: int) -> None:
        filters, self.pace = exponent.shape[0], float(weights) ** -0.5
        first = numerics.multiplier_value(*(block.arrays[name].astype(np.int64) for name in ("multiplier", "shift")))
        self.first = np.broadcast_to(first, (filters,)).astype(np.float64)
        self.exponent = exponent

    def ratio(self) -> Tensor:
        """(F,) float64 with 8-bit mantissas."""
        wanted = ops.multiply(self.first, ops.power(ops.cast(2.0, "float64"), ops.multiply(ops.cast(self.exponent, "float64"), self.pace)))
        return straight(wanted, _eight_bits)

    def widening(self) -> Tensor:
        """(F,) the step in units of the first one."""
        return ops.divide(self.ratio(), self.first)

    def requantize(self, acc: Tensor, law: Requantization) -> Tensor:
        """Law 2 with the ratio of now, in float64: exact for every ratio; gradients stop where the output saturates."""
        scaled = ops.multiply(ops.cast(acc, "float64"), self.ratio())
        whole = straight(scaled, lambda x: floor(ops.add(x, 0.5)))
        return ops.cast(ops.clip(whole, law.low.astype(np.float64), law.high.astype(np.float64)), "float32")

    def arrays(self) -> dict[str, np.ndarray]:
        """Multiplier and shift of now, for the program."""
        mantissa, exponent = np.frexp(ops.convert_to_numpy(self.ratio()))
        return {"multiplier": (mantissa * 256).astype(np.uint8), "shift": (8 - exponent).astype(np.int32)}


def learned_lattice(kernel: Tensor, inverse_step: Tensor, limit: int) -> Tensor:
    """clip(rint(kernel * inverse_step)): gradient 1 to the kernel everywhere, to the step where the weight does not saturate."""
    units = ops.multiply(kernel, inverse_step)
    to_kernel = ops.multiply(kernel, ops.stop_gradient(inverse_step))
    to_step = ops.clip(ops.multiply(ops.stop_gradient(kernel), inverse_step), -limit, limit)
    whole = ops.stop_gradient(ops.clip(ops.round(units), -limit, limit))
    return sum((ops.subtract(x, ops.stop_gradient(x)) for x in (to_kernel, to_step)), whole)


def _eight_bits(ratio: Tensor) -> Tensor:
    unit = ops.power(ops.cast(2.0, "float64"), ops.subtract(floor(ops.log2(ratio)), 7.0))
    return ops.multiply(ops.round(ops.divide(ratio, unit)), unit)
