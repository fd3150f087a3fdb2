"""Bake: the only place where floats become integers.

    weight   = clip(round_half_even(w' / acc_step), -qmax, qmax)           w' = w * step of the input channel
    bias     = align(b / acc_step - sum(zero_point * weight))              align: the target's bias mantissa
    table    = round_half_even(f(i * step_in) / step_table)                at every 11-bit index i
    bound    = align(max / acc_step)                                       of a clipped ReLU, on the accumulator grid
    padding  = round_half_even(pad / step) + zero_point                    the real value zero pads with the zero point
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import lookup, numerics, tables
from .attention import FRACTION, integer_mask, score_multiplier
from .blocks import ENTRIES, LINEAR, Block
from .blueprint import Blueprint
from .embedding import integer_entries
from .entry import spread
from .filters import column, folded_filters, of_filters
from .layernorm import integer_epsilon
from .local_response import squares_multiplier
from .numerics import Ints
from .plan import LayerPlan, Plan
from .program import Format, Program
from .recurrence import integer_coefficients
from .solve import Solution

SCORE_UNITS: Mapping[str, float] = {"attention": float(np.log2(np.e)) * 2**FRACTION, "shift_attention": 1.0}

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Quantization:
    """All a frontend needs to build its quantized model.

    Arguments:
        program: the integers.
        blueprint: the float blocks they were baked from: rescaling folded, biases corrected, tensors centred. What a trainable model holds.
        plan, solutions: decisions and scales that belong to this blueprint.
        config: the decisions in terms of the user's network; stored in the model, dumped as `config.json`.
        bias_mantissa_bits: of the target.
    """

    program: Program
    blueprint: Blueprint
    plan: Plan
    solutions: Mapping[str, Solution]
    config: Mapping[str, Any]
    bias_mantissa_bits: int | None


def bake(blueprint: Blueprint, plan: Plan, solutions: Mapping[str, Solution], bias_mantissa_bits: int | None = None) -> Program:
    """The integer program.

    Arguments:
        bias_mantissa_bits: width of a bias byte on the target, sign included (8 on Akida); None keeps every bit.
    """
    formats = {b.output: solutions[b.name].output for b in blueprint.blocks}
    blocks = []
    for block in blueprint.blocks:
        source = None if block.kind in ENTRIES else formats[block.inputs[0]]
        arrays = _arrays(block, plan.layers[block.name], solutions[block.name], source, bias_mantissa_bits)
        if block.kind == "normalize":
            arrays["epsilon"] = _epsilon(block, blueprint.channels(block.output), formats[block.inputs[0]])
        if block.kind in SCORE_UNITS:
            arrays |= _scores(block, formats)
        if block.kind == "local_response":
            arrays |= _squares(block, formats[block.inputs[0]])
        if block.kind == "embed":
            arrays["entries"] = integer_entries(block.arrays["table"], formats[block.inputs[0]].step).astype(np.int32)
        if block.kind == "lookup":
            arrays |= _looked_up(block, formats[block.inputs[0]], formats[block.output])
        if block.kind == "softmax":
            arrays |= _exponent(float(formats[block.inputs[0]].step[0]) * SCORE_UNITS["attention"])
        if block.kind == "recurrent":
            arrays["coefficients"] = integer_coefficients(block.arrays["coefficients"])
        blocks.append(replace(block, arrays=arrays))
    return Program(tuple(blocks), formats, blueprint.outputs, dict(blueprint.shapes))


def _scores(block: Block, formats: Mapping[str, Format]) -> Arrays:
    """What turns a difference of scores into 1/256 of a power of two, or scores into powers of two."""
    steps = [float(formats[t].step[0]) for t in block.inputs[:2]]
    unit = float(block.arrays["scale"][0]) * steps[0] * steps[1]
    mask = {"mask": integer_mask(block.arrays["mask"], unit)} if "mask" in block.arrays else {}
    return _exponent(unit * SCORE_UNITS[block.kind]) | mask


def _exponent(ratio: float) -> Arrays:
    multiplier, shift = score_multiplier(ratio)
    return {"score_multiplier": np.array([multiplier], np.int64), "score_shift": np.array([shift], np.int64)}


def _squares(block: Block, source: Format) -> Arrays:
    multiplier, shift = squares_multiplier(float(block.arrays["strength"][0]), float(source.step[0]), f"`{block.name}`")
    offset = {"offset": numerics.round_half_even(block.arrays["offset"] / source.step[:1])} if "offset" in block.arrays else {}
    return {"square_multiplier": np.array([multiplier], np.int64), "square_shift": np.array([shift], np.int64), **offset}


def _looked_up(block: Block, source: Format, target: Format) -> Arrays:
    function = lookup.Function.of(block)
    arrays: Arrays = {"entries": lookup.entries(function, source.step, target.step, *target.range).astype(target.dtype)}
    alike = all(len(lookup.one_or_all(f.step)) == 1 for f in (source, target))
    return arrays | ({"zeros": lookup.zeros(function, float(source.step[0]), float(target.step[0]))} if alike else {})


def _epsilon(block: Block, channels: int, source: Format) -> Ints:
    return np.array([integer_epsilon(float(block.arrays["epsilon"][0]), channels, float(source.step[0]))], np.int64)


def _arrays(block: Block, layer: LayerPlan, solution: Solution, source: Format | None, mantissa: int | None) -> Arrays:
    arrays: Arrays = {}
    if block.kind in ENTRIES:
        return _input_arrays(solution.output)
    if block.kind == "select":
        return {"channels": block.arrays["channels"].astype(np.int64)}
    if block.kind in LINEAR:
        assert source is not None
        arrays |= _linear_arrays(block, layer, solution, source, mantissa)
    if block.activation and not block.activation.is_table and block.activation.bound is not None and solution.acc_step is not None:
        arrays |= _bound_arrays(block.activation.bound, solution, mantissa)
    if solution.table_steps is not None:
        assert block.activation is not None
        arrays["table"] = tables.table(block.activation, *solution.table_steps).astype(np.int32)
    return arrays | _tail_arrays(solution)


def bake_input(block: Block, solution: Solution) -> Block:
    """The integer block of a model input."""
    return block.with_arrays(**_input_arrays(solution.output))


def _input_arrays(output: Format) -> Arrays:
    assert output.zero_point is not None
    dtype = np.int8 if output.signed else np.uint8
    return {"scale": output.step.astype(np.float32), "zero_point": output.zero_point.astype(dtype)}


def _linear_arrays(block: Block, layer: LayerPlan, solution: Solution, source: Format, mantissa: int | None) -> Arrays:
    weight = integer_weight(block, layer, solution, source)
    arrays: Arrays = {"weight": weight}
    zero_point = _zero_point(source)
    if "bias" in block.arrays or not source.signed:
        assert solution.acc_step is not None
        exact = block.arrays.get("bias", np.zeros(1)) / solution.acc_step
        exact = exact - zero_point_sum(block, weight, zero_point) if zero_point.any() else exact
        arrays["bias"] = numerics.align_mantissa(exact, None if mantissa is None else mantissa - 1)
    pad = _pad_value(block, source, zero_point)
    return arrays if pad is None else arrays | {"pad_value": pad}


def integer_weight(block: Block, layer: LayerPlan, solution: Solution, source: Format) -> np.ndarray:
    """int8 weights in the block's layout, |q| <= 2^(b-1) - 1."""
    assert block.weight is not None and solution.acc_step is not None and layer.weight_bits is not None
    limit, step = numerics.qmax(layer.weight_bits), column(solution.acc_step, block.weight.ndim)
    integers = np.empty(block.weight.shape, np.int8)
    for rows, folded in folded_filters(block, source.step):
        integers[rows] = numerics.quantize(folded, of_filters(step, rows), -limit, limit)
    return integers


def zero_point_sum(block: Block, weight: np.ndarray, zero_point: Ints) -> Ints:
    """sum(zero_point * weight) per filter; depthwise and grouped weights see their own group's channels."""
    wide = weight.astype(np.int64) * spread(block.with_arrays(weight=weight), zero_point)
    return wide.reshape(len(weight), -1).sum(axis=1)


def _bound_arrays(bound: float, solution: Solution, mantissa: int | None) -> Arrays:
    """The bound of a clipped ReLU, or nothing when the output saturates no later than there."""
    assert solution.acc_step is not None
    aligned = numerics.align_mantissa(bound / solution.acc_step, mantissa).astype(np.int64)
    if solution.shift is not None:
        top = solution.output.range[1]
        multiplier = np.ones(1, np.int64) if solution.multiplier is None else solution.multiplier
        if (numerics.requantize(aligned, multiplier, solution.shift, 0, top) >= top).all():
            return {}
    return {"bound": aligned}


def _zero_point(source: Format) -> Ints:
    return np.zeros(1, np.int64) if source.zero_point is None else source.zero_point.astype(np.int64)


def _pad_value(block: Block, source: Format, zero_point: Ints) -> Ints | None:
    real = block.arrays.get("pad_value")
    if block.kind == "dense" or (real is None and not zero_point.any()):
        return None
    assert block.weight is not None
    value = numerics.round_half_even((0.0 if real is None else real) / source.step) + zero_point
    channels = block.weight.shape[1] * block.groups
    return np.broadcast_to(np.clip(value, *source.range), (channels,)).astype(np.int32)


def _tail_arrays(solution: Solution) -> Arrays:
    arrays: Arrays = {}
    for name in ("multiplier", "shift", "table_multiplier", "table_shift"):
        value = getattr(solution, name)
        if value is not None:
            arrays[name] = np.asarray(value, np.uint8 if name.endswith("multiplier") else np.int32)
    if solution.operand_shifts is not None:
        arrays |= {"x_shift": solution.operand_shifts[0], "y_shift": solution.operand_shifts[1]}
    if solution.shift is not None:
        arrays["range"] = np.array(solution.output.range, np.int64)
    return arrays
