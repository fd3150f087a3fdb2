"""Centre the tensors that may be shifted: a symmetric range wastes codes on a tensor that is not symmetric.

A ReLU of a depthwise convolution or a dense layer is left to saturation: with c = 128 step the integers -128 .. 127 stand for 0 .. 255 steps, twice as many as
0 .. 127, and what is below ends at -128. That holds for the very step only, so weights give way to it. Depthwise kernels are so short that they have some to spare for
powers of two (`scheme`), with which one QLinearConv is exact; those of other convolutions are not, and a signed output would take two. Where a local response normalization
reads it, and wants one step for all channels, the bit is worth more than that: there the ReLU of any convolution is left to saturation. So it is where depthwise
convolutions read it, on a target that pads with another number than zero: there a clip is saved as well, and their products of larger bytes cost nothing on any processor.

A convolution without activation may write t - c instead of t when everything that reads it can give c back: a linear block without padding adds
sum(W c) to its bias, an addition without activation passes c on to its own readers. c is the middle of the calibrated range per channel, or further from zero where
its margin would go beyond zero. The network stays the same function; only biases and ranges change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .blocks import LINEAR, WHOLE, Block, may_saturate, moves
from .blueprint import Blueprint
from .calibration import Range
from .entry import absorb
from .numerics import Floats
from .plan import LayerPlan, Plan
from .scheme import CHANNEL_FLOOR, SMALLEST

Ranges = Mapping[str, Range]


def centre(blueprint: Blueprint, plan: Plan, ranges: Ranges, padding: bool = False) -> tuple[Blueprint, Plan, dict[str, Range]]:
    """An equal blueprint whose shiftable tensors are centred, with the plan and the ranges that go with it.

    Arguments:
        plan: its ranges (calibrated, or given by the user's configuration) say where the middle is.
        ranges: their means move along.
        padding: whether the target pads with another number than zero.
    """
    shiftable = _shiftable(blueprint, plan)
    offsets: dict[str, Floats] = {}
    blocks, layers = [], dict(plan.layers)
    for block in blueprint.blocks:
        layer = plan.layers[block.name]
        if block.kind == "add" and block.output in shiftable:
            offsets[block.output] = sum((offsets[t] for t in block.inputs if t in offsets), np.zeros(1))
            layers[block.name] = _moved(layer, offsets[block.output])
        block = _restored(block, offsets)
        if saturates(block, blueprint, layer.output_bits, layer.signed, padding):
            step = _step_from_zero(block, layer)
            offsets[block.output] = 128 * step
            layers[block.name] = replace(layer, low=-127 * step, high=127 * step, floor=0.0, headroom=1.0)
            block = replace(_shifted(block, offsets[block.output]), activation=None)
        elif block.kind in LINEAR and block.output in shiftable:
            offsets[block.output], width = _middle(layer)
            layers[block.name] = replace(layer, low=-width, high=width, floor=0.0, headroom=1.0)
            block = _shifted(block, offsets[block.output])
        blocks.append(block)
    moved = {t: replace(r, mean=r.mean - offsets[t]) if t in offsets else r for t, r in ranges.items()}
    return replace(blueprint, blocks=tuple(blocks)), Plan(layers), moved


def saturates(block: Block, blueprint: Blueprint, bits: int | None, signed: bool, padding: bool) -> bool:
    """Whether a block's ReLU can be left to the saturation of bytes that begin at -128; `padding` as in `centre`."""
    readers = blueprint.consumers(block.output)
    rectified, pooled = block.activation is not None and not block.activation.is_table, block.pool is not None and block.pool.kind != "max"
    inside = rectified and bits == 8 and signed and block.output not in blueprint.outputs and not pooled
    if padding and block.kind in ("conv2d", "depthwise2d") and {reader.kind for reader in readers} == {"depthwise2d"}:
        return inside
    return inside and may_saturate(block, readers) and all(reader.kind == "local_response" or _gives_back(reader, set()) for reader in readers)


def _shiftable(blueprint: Blueprint, plan: Plan) -> set[str]:
    """Signed tensors without activation all of whose readers can give a shift back; what only moves keeps its integers."""
    found: set[str] = set()
    for block in reversed(blueprint.blocks):
        plain = block.kind in (*LINEAR, "add") and block.activation is None and block.output not in blueprint.outputs \
            and plan.layers[block.name].signed and not moves(block)
        if plain and all(_gives_back(reader, found) for reader in blueprint.consumers(block.output)):
            found.add(block.output)
    return found


def _gives_back(reader: Block, shiftable: set[str]) -> bool:
    if reader.kind in WHOLE:
        return not any(reader.pads)
    return reader.kind == "add" and reader.output in shiftable


def _step_from_zero(block: Block, layer: LayerPlan) -> Floats:
    """A 255th of the range that begins at zero; a ReLU's bound ends it."""
    assert block.activation is not None
    widest = np.maximum(layer.absmax, float(layer.absmax.max(initial=0.0)) * CHANNEL_FLOOR or SMALLEST)
    return np.minimum(widest, np.inf if block.activation.bound is None else block.activation.bound) / 255


def _middle(layer: LayerPlan) -> tuple[Floats, Floats]:
    """The middle of what the integers cover, and how far that reaches to either side: the calibrated range with its margin, moved so that it ends at zero rather
    than beyond. What was never negative is taken not to be, and goes further the other way."""
    low, high = layer.extremes
    middle = (low + high) / 2.0
    width = replace(layer, low=low - middle, high=high - middle).absmax
    return np.where(low >= 0, np.maximum(middle, width), np.where(high <= 0, np.minimum(middle, -width), middle)), width


def _moved(layer: LayerPlan, offset: Floats) -> LayerPlan:
    low, high = layer.extremes
    return replace(layer, low=low - offset, high=high - offset)


def _shifted(block: Block, offset: Floats) -> Block:
    assert block.weight is not None
    return block.with_arrays(bias=np.broadcast_to(block.arrays.get("bias", np.zeros(1)) - offset, (len(block.weight),)))


def _restored(block: Block, offsets: Mapping[str, Floats]) -> Block:
    """A block reads t - c where it read t: the bias of a linear one gains sum(W c), a local response normalization adds c, which is the
    same for all channels: it refuses several steps."""
    offset = offsets.get(block.inputs[0]) if block.inputs else None
    if offset is None or block.kind not in (*WHOLE, "local_response"):
        return block
    return block.with_arrays(offset=offset[:1]) if block.kind == "local_response" else absorb(block, np.ones(1), offset)
