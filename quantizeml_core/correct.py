"""Bias correction: errors with a known mean are taken out of the biases, so that they do not add up along the network.

- Rounding weights moves a filter's output by sum((w_q - w) E[x]) on average; E[x] is the mean of each input channel seen in calibration
  (Nagel et al., Data-Free Quantization, arXiv 1906.04721, section 4.2).
- An addition whose sum is shifted right by k >= 1 rounds halves up on a grid so coarse that they are common: + unit / 2 on average. The operand that is
  a convolution for this addition alone gives it back.
- Samples on a lattice (pixels) may all be rounded the same way by the input quantizer; their mean error is folded into the first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .bake import integer_weight
from .blocks import LINEAR, Block
from .blueprint import Blueprint
from .calibration import Range
from .entry import spread
from .numerics import Floats
from .plan import Plan
from .program import Format
from .solve import Solution

Solutions = Mapping[str, Solution]


def correct(blueprint: Blueprint, plan: Plan, solutions: Solutions, ranges: Mapping[str, Range], input_errors: Mapping[str, Floats]) -> Blueprint:
    """The same blueprint with corrected biases.

    Arguments:
        ranges: per tensor, with means.
        input_errors: per input tensor the mean of x - dequantize(quantize(x)), (C,), in real units.
    """
    halves = _rounding_halves(blueprint, solutions)
    formats = {b.output: solutions[b.name].output for b in blueprint.blocks}

    def corrected(block: Block) -> Block:
        if block.kind not in LINEAR:
            return block
        assert block.weight is not None
        source = block.inputs[0]
        quantized = dequantized_weight(block, plan, solutions[block.name], formats[source])
        drift = _response(block, quantized - block.weight, ranges[source].mean)
        entry = _response(block, block.weight, input_errors.get(source, np.zeros(1)))
        bias = block.arrays.get("bias", np.zeros(1)) - drift + entry - halves.get(block.name, 0.0)
        return block.with_arrays(bias=np.broadcast_to(bias, (len(block.weight),)))

    return replace(blueprint, blocks=tuple(corrected(b) for b in blueprint.blocks))


def dequantized_weight(block: Block, plan: Plan, solution: Solution, source: Format) -> Floats:
    """The real weights that the integer ones stand for."""
    weight = integer_weight(block, plan.layers[block.name], solution, source)
    assert solution.acc_step is not None
    return weight * solution.acc_step.reshape(-1, *(1,) * (weight.ndim - 1)) / spread(block, source.step)


def _response(block: Block, weight: np.ndarray, channel_values: Floats) -> Floats:
    """sum(weight * value of its input channel) per filter; a pixel of a transposed convolution sees one in stride * stride of the taps."""
    share = np.prod(block.strides) if block.kind == "conv_transpose2d" else 1
    return (weight * spread(block, channel_values)).reshape(len(weight), -1).sum(axis=1) / share


def _rounding_halves(blueprint: Blueprint, solutions: Solutions) -> dict[str, Floats]:
    """Half a unit of each addition that shifts right, by the name of the convolution that gives it back."""
    halves: dict[str, Floats] = {}
    for add in (b for b in blueprint.blocks if b.kind == "add"):
        solution = solutions[add.name]
        giver = next((p for t in reversed(add.inputs) if (p := _giver(blueprint, t)) is not None), None)
        if solution.shift is not None and solution.acc_step is not None and giver is not None:
            halves[giver.name] = np.where(solution.shift > 0, solution.acc_step / 2, 0.0)
    return halves


def _giver(blueprint: Blueprint, tensor: str) -> Block | None:
    """The linear block without activation or pooling that writes a tensor for one reader."""
    block = blueprint.producer(tensor)
    plain = block is not None and block.kind in LINEAR and block.activation is None and block.pool is None
    return block if plain and len(blueprint.consumers(tensor)) == 1 else None
