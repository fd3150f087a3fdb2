"""Solve: from ranges and bits to scales. No integer weight is made here; `bake` does that with what is decided here.

Notation: `step` is the real value of one unit of a tensor, `acc_step` of one unit of an accumulator. Weights first absorb the step of every input
channel, w' = w * step_in, so acc_step is the step of w' alone, per filter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import attention, embedding, hardware_forms, local_response, lookup, numerics, recurrence, tables
from .align import bound
from .blocks import LINEAR, Block, may_saturate, moves
from .blueprint import Blueprint
from .calibration import Range
from .clearance import WIDER, products_are_clear
from .errors import ModelError
from .filters import folded_filters, of_filters
from .geometry import common_denominator, convolved_size
from .layernorm import FRACTION
from .numerics import Floats, Ints
from .plan import LayerPlan, Plan
from .program import Format
from .scheme import SILENT, Choice, Exact, Scheme

#: Bias integers stay below 2^BIAS_BITS: a filter whose weights are tiny beside its bias gets a wider accumulator step.
BIAS_BITS = 26
#: Step of a filter without weights, bias and requantization.
EMPTY_STEP = 2.0**-40
#: A bias rounded to an 8-bit mantissa grows by at most this.
BIAS_MARGIN = 1 + 2.0**-7
#: An accumulator this many bits wider than the ratio of steps holds every output of 8 bits, with one bit to spare.
OUTPUT_HEADROOM = 10


@dataclass(frozen=True)
class Solution:
    """Scales of one block. Absent parts are None.

    Arguments:
        output: format of the output tensor.
        acc_step: (F,) step of the accumulator of a linear block, before table and pooling.
        multiplier, shift: (F,) or (C,) requantization to the output.
        table_steps: (step of the index, step of the entries) of a table activation.
        table_multiplier, table_shift: requantization of the accumulator to the index.
        operand_shifts: power-of-two factors of the operands of an addition.
        widened: bits by which the weights' step was widened so that no accumulator leaves its width.
    """

    output: Format
    acc_step: Floats | None = None
    multiplier: Ints | None = None
    shift: Ints | None = None
    table_multiplier: Ints | None = None
    table_shift: Ints | None = None
    table_steps: tuple[float, float] | None = None
    operand_shifts: tuple[Ints, Ints] | None = None
    widened: int = 0


def solve(blueprint: Blueprint, plan: Plan, ranges: Mapping[str, Range], scheme: Scheme | None = None) -> dict[str, Solution]:
    """Scales for every block, by block name, in block order.

    Arguments:
        blueprint: with its entry rescaling folded (`entry.fold_entry`).
        plan: bits, axes and ranges per block.
        ranges: needed for the probes of table activations.
    """
    return _Solver(blueprint, plan, ranges, scheme or Exact()).run()


class _Solver:
    def __init__(self, blueprint: Blueprint, plan: Plan, ranges: Mapping[str, Range], scheme: Scheme) -> None:
        self.blueprint, self.plan, self.ranges, self.scheme = blueprint, plan, ranges, scheme
        self.needs = {b.output: self._need(plan.layers[b.name]) for b in blueprint.blocks}
        self.given = self._alignments()
        self.bound = bound(blueprint.blocks)
        self.formats: dict[str, Format] = {}
        self.widened: dict[str, int] = {}

    def run(self) -> dict[str, Solution]:
        solutions: dict[str, Solution] = {}
        for block in self.blueprint.blocks:
            method = "linear" if block.kind in LINEAR else block.kind
            solution = getattr(self, f"_{method}")(block, self.plan.layers[block.name])
            solutions[block.name] = replace(solution, widened=self.widened.get(block.name, 0))
            self.formats[block.output] = solutions[block.name].output
        return solutions

    def _need(self, layer: LayerPlan) -> Floats:
        return self.scheme.need(layer.absmax, layer.output_bits or 8, layer.signed)

    def _alignments(self) -> dict[str, Floats]:
        channels = {b.output: self.blueprint.channels(b.output) for b in self.blueprint.blocks}
        shared = frozenset(b.output for b in self.blueprint.blocks if b.activation and b.activation.is_table)
        return self.scheme.tied(self.blueprint.blocks, self.needs, channels, shared)

    def _input(self, block: Block, layer: LayerPlan) -> Solution:
        if layer.signed:
            step = self.given.get(block.output)
            step = self.scheme.symmetric(layer.absmax) if step is None else step
            return Solution(Format(8, True, step, np.zeros(len(step), np.int64)))
        step, zero_point = self.scheme.affine(*layer.spans, self.ranges[block.output].integer, any(any(b.pads) for b in self.blueprint.consumers(block.output)))
        return Solution(Format(8, False, step, zero_point))

    _resume = _input

    def _linear(self, block: Block, layer: LayerPlan) -> Solution:
        area = self._area(block)
        acc_step = self._accumulator_step(block, layer, area)
        if block.activation and block.activation.is_table:
            return self._table(block, layer, acc_step, area)
        if layer.output_bits is None:
            return Solution(Format(32, True, acc_step), acc_step)
        choice = self._passed(block, layer, acc_step) or self._choose(block.output, acc_step / area, self._grid(block), self._is_exact(block))
        choice = self._snapped(block, layer, choice, acc_step / area)
        return _solution(layer, choice, choice.acc_step * area)

    def _passed(self, block: Block, layer: LayerPlan, acc_step: Floats) -> Choice | None:
        """A block whose outputs are some of its inputs keeps their step, so that the integers pass unchanged."""
        source = self.formats[block.inputs[0]]
        kept = (source.bits, source.signed) == (layer.output_bits, layer.signed) and source.zero_point is None
        if block.output in self.given or not kept or not isinstance(self.scheme, Exact) or not moves(block):
            return None
        return self.scheme.given(acc_step, np.broadcast_to(source.step, acc_step.shape), numerics.ANY)

    def _is_exact(self, block: Block) -> bool:
        """Whether an output has the very step that it needs, and weights give way: its ReLU may be its saturation (`centre`)."""
        return block.activation is None and isinstance(self.scheme, Exact) and may_saturate(block, self.blueprint.consumers(block.output))

    def _grid(self, block: Block) -> str:
        """What depthwise convolutions read that pad with the integer of zero may have any multiplier of a signed output (`centre`)."""
        unpadded = (reader for reader in self.blueprint.consumers(block.output) if "pad_value" not in reader.arrays)
        return _grid(block, may_saturate(block, unpadded))

    def _choose(self, tensor: str, acc_step: Floats, grid: str, exact: bool = False) -> Choice:
        step = self.given.get(tensor, self.needs[tensor] if exact else None)
        return self.scheme.free(acc_step, self.needs[tensor], grid) if step is None else self.scheme.given(acc_step, step, grid)

    def _snapped(self, block: Block, layer: LayerPlan, choice: Choice, acc_step: Floats) -> Choice:
        """A clipped ReLU whose bound lies inside the output's range ends that range at the bound: saturation then does the clipping."""
        bound = block.activation.bound if block.activation else None
        if bound is None or block.output in self.given or not isinstance(self.scheme, Exact):
            return choice
        top = numerics.qmax(layer.output_bits or 8, layer.signed)
        snapped = self.scheme.given(acc_step, np.full(len(acc_step), bound / top), self._grid(block))
        inside = choice.step * top > bound
        return Choice(*(np.where(inside, new, old) for new, old in zip(snapped, choice, strict=True)))

    def _accumulator_step(self, block: Block, layer: LayerPlan, area: int) -> Floats:
        """The smallest step at which the weights fit their bits and the worst case fits the accumulator, finer than the output only by what it can hold."""
        source = self.formats[block.inputs[0]]
        step = np.concatenate([self.scheme.weight_step(w.reshape(len(w), -1), layer.weight_bits or 8) for _, w in folded_filters(block, source.step)])
        bias, target = np.abs(block.arrays.get("bias", np.zeros(1))), self._target_step(block, layer)
        most = step * numerics.qmax(layer.weight_bits or 8) * block.weight[0].size * _furthest(source)
        weighted = (step > 0) & (most >= target / 2)  # what never moves the output has no bits to lose
        useful = target * area * 2.0 ** (OUTPUT_HEADROOM - layer.buffer_bits)
        free = np.maximum(step, bias * 2.0**-BIAS_BITS)
        step = np.maximum(free, useful)
        step, limit = np.where(step > 0, step, EMPTY_STEP), (_furthest(source), layer.buffer_bits)
        fitting = np.concatenate([_fitting(step[rows], w, of_filters(bias, rows), *limit) for rows, w in folded_filters(block, source.step)])
        self.widened[block.name] = int(np.ceil(np.log2(np.where(weighted, fitting / np.where(weighted, free, 1.0), 1.0).max())))
        return fitting

    def _target_step(self, block: Block, layer: LayerPlan) -> Floats:
        """The step that the accumulator is requantized to: of the table's index or of the output; nil when it is kept raw."""
        if block.activation and block.activation.is_table:
            return self._index_step(block)
        if layer.output_bits is None:
            return np.zeros(1)
        return self.given.get(block.output, self.needs[block.output])

    def _index_step(self, block: Block) -> Floats:
        widest = float(self.ranges[block.probe].absmax.max()) or SILENT
        return numerics.symmetric_step(np.array([widest]), tables.INDEX_BITS)

    def _area(self, block: Block) -> int:
        if not (block.pool and block.pool.kind == "gap"):
            return 1
        return convolution_area(block, self.blueprint.shapes[block.inputs[0]])

    def _table(self, block: Block, layer: LayerPlan, acc_step: Floats, area: int) -> Solution:
        activation = block.activation
        assert activation is not None
        index_step = self._index_step(block)
        into = self.scheme.given(acc_step, index_step, numerics.INDEX) if isinstance(self.scheme, Exact) else self.scheme.free(acc_step, index_step, numerics.ANY)
        values = tables.evaluate(activation, float(index_step[0]))
        table_step = numerics.symmetric_step(np.abs(values).max(keepdims=True), tables.TABLE_BITS)
        if layer.output_bits is None:
            made = Solution(Format(32, True, table_step), into.acc_step)
        else:
            out = self._choose(block.output, table_step / area, numerics.ANY)
            made, table_step = _solution(layer, out, into.acc_step), out.acc_step[:1] * area
        steps = (float(index_step[0]), float(table_step[0]))
        return replace(made, table_multiplier=into.multiplier, table_shift=into.shift, table_steps=steps)

    def _add(self, block: Block, layer: LayerPlan) -> Solution:
        x, y = (self.formats[t].step for t in block.inputs)
        unit = np.minimum(x, y)
        shifts = (numerics.round_half_even(x / unit), numerics.round_half_even(y / unit))
        if layer.output_bits is None:
            return Solution(Format(32, True, unit), unit, operand_shifts=shifts)
        step = self.given[block.output]
        shift = numerics.round_half_even(np.log2(step / unit))
        return Solution(Format(layer.output_bits, layer.signed, step), unit, shift=shift, operand_shifts=shifts)

    def _multiply(self, block: Block, layer: LayerPlan) -> Solution:
        x, y = (lookup.one_or_all(self.formats[t].step) for t in block.inputs)
        solutions = (self._rescaled(block, layer, x * y, factor) for factor in WIDER)
        return next((s for s in solutions if s.shift is None or self._is_clear(block, s)), self._rescaled(block, layer, x * y))

    def _is_clear(self, block: Block, solution: Solution) -> bool:
        """Whether float32 gives a product of bytes on any machine; nothing is won where there are several steps, or a given one."""
        assert solution.multiplier is not None and solution.shift is not None
        return solution.multiplier.size > 1 or block.output in self.bound \
            or products_are_clear(solution.multiplier, solution.shift, *(self._ends(t) for t in block.inputs), *solution.output.range)

    def _ends(self, tensor: str) -> tuple[int, int]:
        """The integers that a tensor lies between, before there is a program (`program.reach`)."""
        (low, high), producer = self.formats[tensor].range, self.blueprint.producer(tensor)
        rectified = producer is not None and producer.activation is not None and not producer.activation.is_table
        return 0 if rectified else low, high

    def _normalize(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs)
        return self._rescaled(block, layer, np.array([2.0**-FRACTION]))

    def _attention(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs[:2])
        return self._rescaled(block, layer, self.formats[block.inputs[2]].step * 2.0**-attention.FRACTION)

    def _shift_attention(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs[:2])
        return self._rescaled(block, layer, self.formats[block.inputs[2]].step * 2.0**-hardware_forms.FRACTION)

    def _mad_normalize(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs)
        return self._rescaled(block, layer, np.array([2.0**-hardware_forms.FRACTION]))

    def _local_response(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs)
        return self._rescaled(block, layer, self.formats[block.inputs[0]].step * block.arrays["gain"] * 2.0**-local_response.FRACTION)

    def _lookup(self, block: Block, layer: LayerPlan) -> Solution:
        source, step = self.formats[block.inputs[0]], self.given.get(block.output, self.needs[block.output])
        if block.output not in self.bound:
            step = lookup.clear_step(lookup.Function.of(block), source.step, step)
        return Solution(Format(layer.output_bits or 8, layer.signed, step))

    def _embed(self, block: Block, layer: LayerPlan) -> Solution:
        return self._rescaled(block, layer, self.formats[block.inputs[0]].step * 2.0**-embedding.FRACTION)

    def _one_scale(self, block: Block, tensors: Sequence[str]) -> None:
        """Sums over channels ask for one step of all of them; only a concatenation cannot give that."""
        if any(np.any(self.formats[t].step != self.formats[t].step[0]) for t in tensors):
            raise ModelError(f"an input of this {block.kind} has several scales, it needs one for all channels", where=f"`{block.name}`",
                             do="Put a convolution between the concatenation and it")

    def _pool2d(self, block: Block, layer: LayerPlan) -> Solution:
        assert block.pool is not None
        height, width = (int(s or 0) for s in self.blueprint.shapes[block.inputs[0]][2:])
        return self._rescaled(block, layer, self.formats[block.inputs[0]].step / common_denominator((height, width), block.pool)[0])

    def _select(self, block: Block, layer: LayerPlan) -> Solution:
        source = self.formats[block.inputs[0]]
        return Solution(Format(source.bits, source.signed, source.step if source.step.size == 1 else source.step[block.arrays["channels"]]))

    def _rescaled(self, block: Block, layer: LayerPlan, acc_step: Floats, wider: float = 1.0) -> Solution:
        """An accumulator whose step nothing can widen: a free output step follows it exactly, a given one by the closest multiplier."""
        if layer.output_bits is None:
            return Solution(Format(32, True, acc_step), acc_step)
        need = self.needs[block.output] * wider
        step = self.given.get(block.output) if block.output in self.bound or acc_step.size > len(need) else None
        if step is None:
            return _solution(layer, self.scheme.free(acc_step, need, numerics.ANY), acc_step)
        m, f = numerics.multiplier_closest(acc_step / step)
        return _solution(layer, Choice(acc_step, np.broadcast_to(step, m.shape), m, f), acc_step)

    def _upsample2d(self, block: Block, layer: LayerPlan) -> Solution:
        source = self.formats[block.inputs[0]]
        return Solution(Format(source.bits, source.signed, source.step))

    def _buffer(self, block: Block, layer: LayerPlan) -> Solution:
        source = self.formats[block.inputs[0]]
        return Solution(Format(source.bits, source.signed, source.step if source.step.size == 1 else source.step.repeat(block.frames)))

    def _softmax(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs)
        return self._rescaled(block, layer, np.array([2.0**-attention.SOFTMAX_FRACTION]))

    def _matmul(self, block: Block, layer: LayerPlan) -> Solution:
        self._one_scale(block, block.inputs)
        x, y = (self.formats[t].step[:1] for t in block.inputs)
        return self._rescaled(block, layer, x * y)

    def _recurrent(self, block: Block, layer: LayerPlan) -> Solution:
        step = self.formats[block.inputs[0]].step
        return self._rescaled(block, layer, (step if step.size == 1 else step.repeat(2)) * 2.0**-recurrence.FRACTION)

    def _concat(self, block: Block, layer: LayerPlan) -> Solution:
        parts = [self.formats[t] for t in block.inputs]
        signed = any(p.signed for p in parts)
        bits = max(p.bits + (signed and not p.signed) for p in parts)
        widths = [self.blueprint.channels(t) for t in block.inputs]
        step = np.concatenate([np.broadcast_to(p.step, (w,)) for p, w in zip(parts, widths, strict=True)])
        return Solution(Format(bits, signed, step))


def _solution(layer: LayerPlan, choice: Choice, acc_step: Floats) -> Solution:
    step = choice.step
    if not layer.per_axis and np.all(step == step[0]):
        step = step[:1]
    return Solution(Format(layer.output_bits or 8, layer.signed, step), acc_step, choice.multiplier, choice.shift)


def _furthest(source: Format) -> int:
    """The largest |q - zero_point| of a tensor."""
    low, high = source.range
    return high if source.zero_point is not None and not source.signed else max(-low, high)


def _fitting(step: Floats, folded: Floats, bias: Floats, furthest: int, bits: int) -> Floats:
    """`step` times the smallest power of two at which no accumulator leaves `bits` bits, nor will when `correct` has changed the bias.

    The correction takes out what rounding weights adds on average: at most the sum of their errors times the furthest input. Biases may grow by
    `BIAS_MARGIN` when their mantissa is cut.
    """
    weight, limit = np.abs(folded).reshape(len(folded), -1), max(2.0 ** (bits - 1) - 2, 1.0)
    at_most = (weight.sum(axis=1) / step + weight.shape[1]) * furthest + bias / step * BIAS_MARGIN  # each weight is rounded by half a unit or less
    while (at_most > limit).any():
        exact = weight / step[:, None]
        rounded = np.rint(exact)
        at_most = (rounded + np.abs(exact - rounded)).sum(axis=1) * furthest + bias / step * BIAS_MARGIN
        step = np.where(at_most > limit, 2 * step, step)
    return step


def _grid(block: Block, from_saturation: bool) -> str:
    """The multipliers with which onnxruntime's QLinearConv can carry this block: a convolution with nothing summed or looked up behind it.

    Arguments:
        from_saturation: whether its ReLU may be its saturation.
    """
    gap, table = block.pool is not None and block.pool.kind == "gap", block.activation is not None and block.activation.is_table
    if block.kind not in ("conv2d", "depthwise2d") or gap or table:
        return numerics.ANY
    if block.activation is not None:
        return numerics.RELU
    if from_saturation:
        return numerics.POWERS
    return numerics.SIGNED if block.kind == "conv2d" and block.pool is None else numerics.ANY


def convolution_area(block: Block, shape: tuple[int | None, ...]) -> int:
    """Number of pixels of a convolution's output: what a global average divides by."""
    return math.prod(convolved_size(block, (int(shape[2] or 0), int(shape[3] or 0))))
