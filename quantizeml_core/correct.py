"""Bias correction: errors with a known mean are taken out of the biases, so that they do not add up along the network.

- Rounding weights moves a filter's output by sum((w_q - w) E[x]) on average; E[x] is the mean of each input channel seen in calibration
  (Nagel et al., Data-Free Quantization, arXiv 1906.04721, section 4.2).
- An addition whose sum is shifted right by k >= 1 rounds halves up on a grid so coarse that they are common: + unit / 2 on average. The operand that is
  a convolution for this addition alone gives it back.
- Samples on a lattice (pixels) may all be rounded the same way by the input quantizer; their mean error is folded into the first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from .bake import integer_weight
from .blocks import LINEAR, Block, accumulates
from .blueprint import Blueprint
from .calibration import Range
from .entry import spread
from .filters import column, of_filters, pieces
from .lookup import Function, mean_error
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
        drift = _drift(block, plan, solutions[block.name], formats[source], ranges[source].mean)
        entry = _response(block, input_errors[source]) if source in input_errors else 0.0
        bias = block.arrays.get("bias", np.zeros(1)) - drift + entry - halves.get(block.name, 0.0)
        return block.with_arrays(bias=np.broadcast_to(bias, (len(block.weight),)))

    return replace(blueprint, blocks=tuple(corrected(b) for b in blueprint.blocks))


def lookup_errors(blueprint: Blueprint, solutions: Solutions, ranges: Mapping[str, Range]) -> dict[str, Floats]:
    """Mean of f(x) - dequantize(table of x) per channel, of each function that is looked up behind sums, which are about normally distributed."""
    found: dict[str, Floats] = {}
    for block in (b for b in blueprint.blocks if b.kind == "lookup"):
        source, seen = blueprint.producer(block.inputs[0]), ranges[block.inputs[0]]
        if source is not None and source.kind in LINEAR and accumulates(source) and seen.deviation.size == seen.mean.size:
            steps = (solutions[b.name].output.step for b in (source, block))
            found[block.output] = mean_error(Function.of(block), *steps, seen)
    return found


def _drift(block: Block, plan: Plan, solution: Solution, source: Format, mean: Floats) -> Floats:
    """sum((w_q - w) * mean of its input channel) per filter; w_q: the real weights that the integer ones stand for."""
    assert block.weight is not None and solution.acc_step is not None
    integers, (unit, wide) = integer_weight(block, plan.layers[block.name], solution, source), (spread(block, v) for v in (source.step, mean))
    step = column(solution.acc_step, integers.ndim)

    def moved(rows: slice) -> Floats:
        quantized = integers[rows] * of_filters(step, rows) / of_filters(unit, rows)
        return (quantized - block.weight[rows]) * of_filters(wide, rows)

    return _summed(block, moved)


def _response(block: Block, per_channel: Floats) -> Floats:
    """sum(weight * value of its input channel) per filter."""
    assert block.weight is not None
    weight, wide = block.weight, spread(block, per_channel)
    return _summed(block, lambda rows: weight[rows] * of_filters(wide, rows))


def _summed(block: Block, products: Callable[[slice], Floats]) -> Floats:
    """Sums over the taps of each filter; a pixel of a transposed convolution sees one in stride * stride of them."""
    assert block.weight is not None
    share = np.prod(block.strides) if block.kind == "conv_transpose2d" else 1
    made = (products(rows) for rows in pieces(block.weight))
    return np.concatenate([m.reshape(len(m), -1).sum(axis=1) for m in made]) / share


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
