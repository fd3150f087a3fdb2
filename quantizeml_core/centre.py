"""Centre the tensors that may be shifted: a symmetric range wastes codes on a tensor that is not symmetric.

A ReLU of a depthwise convolution or a dense layer is left to saturation: with c = 128 step the integers -128 .. 127 stand for 0 .. 255 steps, twice as many as
0 .. 127, and what is below ends at -128. That holds for the very step only, so weights give way to it. Depthwise kernels are so short that they have some to spare for
powers of two (`scheme`), with which one QLinearConv is exact; those of other convolutions are not, and a signed output would take two. Where a local response normalization
reads it, and wants one step for all channels, the bit is worth more than that: there the ReLU of any convolution is left to saturation. So it is where depthwise
convolutions read it, on a target that pads with another number than zero: there a clip is saved as well, and their products of larger bytes cost nothing on any processor.

A convolution without activation may write t - c instead of t when everything that reads it can give c back: a linear block without padding adds
sum(W c) to its bias, a function that is looked up adds c first, an addition without activation passes c on to its own readers; and, on a target that pads, what only moves.
c is the middle of the calibrated range per channel, or further from zero where its margin would go beyond zero. A function gives f - c too: where that is the same for all
channels, padded layers read it as well, and zero is among its integers. The network stays the same function; only biases and ranges change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .blocks import LINEAR, WHOLE, Block, may_saturate, moves
from .blueprint import Blueprint
from .calibration import Range
from .entry import absorb
from .lookup import varying
from .numerics import Floats, qmax
from .plan import LayerPlan, Plan
from .scheme import CHANNEL_FLOOR, SILENT

#: Kinds that add a number to each value they read.
ADDS = ("local_response", "lookup")

Ranges = Mapping[str, Range]


def centre(blueprint: Blueprint, plan: Plan, ranges: Ranges, padding: bool = False) -> tuple[Blueprint, Plan, dict[str, Range]]:
    """An equal blueprint whose shiftable tensors are centred, with the plan and the ranges that go with it.

    Arguments:
        plan: its ranges (calibrated, or given by the user's configuration) say where the middle is.
        ranges: their means move along.
        padding: whether the target pads with another number than zero.
    """
    shiftable = _shiftable(blueprint, plan, padding)
    offsets: dict[str, Floats] = {}
    blocks, layers = [], dict(plan.layers)
    for block in blueprint.blocks:
        layer, shifts = plan.layers[block.name], block.output in shiftable
        carries = shifts and (block.kind == "add" or moves(block))
        block = block if carries else _restored(block, offsets)
        if carries:
            offsets[block.output] = _carried(block, blueprint, offsets)
            layers[block.name] = _moved(layer, offsets[block.output])
        elif saturates(block, blueprint, layer.output_bits, layer.signed, padding):
            step = _step_from_zero(block, layer)
            offsets[block.output] = 128 * step
            layers[block.name] = replace(layer, low=-127 * step, high=127 * step, floor=0.0, headroom=1.0)
            block = replace(_shifted(block, offsets[block.output]), activation=None)
        elif block.kind in LINEAR and shifts:
            readers = blueprint.consumers(block.output)
            offsets[block.output], width = _middle(_heard(layer, readers, plan))
            if any(reader.kind == "lookup" for reader in readers):
                offsets[block.output], width = _on_grid(offsets[block.output], width, qmax(layer.output_bits or 8))
            layers[block.name] = replace(layer, low=-width, high=width, floor=0.0, headroom=1.0)
            block = _shifted(block, offsets[block.output])
        elif block.kind == "lookup" and shifts:
            offsets[block.output], width = _middle(_with_zero(layer) if _padded(block.output, blueprint) else layer)
            layers[block.name] = replace(layer, low=-width, high=width, floor=0.0, headroom=1.0)
            block = block.with_arrays(middle=offsets[block.output])
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
    return inside and may_saturate(block, readers) and all(reader.kind == "local_response" or reader.kind in WHOLE and not any(reader.pads) for reader in readers)


def _shiftable(blueprint: Blueprint, plan: Plan, padding: bool) -> set[str]:
    """Signed tensors without activation all of whose readers can give a shift back; what only moves keeps its integers, and carries a shift where the target pads."""
    found: set[str] = set()
    for block in reversed(blueprint.blocks):
        plain = block.kind in (*LINEAR, "add") and block.activation is None and not moves(block) or block.kind == "lookup" \
            or padding and moves(block) and block.kind != "buffer"
        inside = plain and block.output not in blueprint.outputs and plan.layers[block.name].signed
        source = _unmoved(block, blueprint)
        if inside and all(_gives_back(reader, found, source, plan, padding) for reader in blueprint.consumers(block.output)):
            found.add(block.output)
    return found


def _unmoved(block: Block, blueprint: Blueprint) -> Block:
    """What a tensor comes from, before all that only moves one tensor: its shift is that one's."""
    source = blueprint.producer(block.inputs[0]) if moves(block) and len(block.inputs) == 1 else None
    return block if source is None else _unmoved(source, blueprint)


def _carried(block: Block, blueprint: Blueprint, offsets: Mapping[str, Floats]) -> Floats:
    """The shift of a sum, and of what only moves: that of its channels."""
    if block.kind == "add":
        return sum((offsets[t] for t in block.inputs if t in offsets), np.zeros(1))
    wide = np.concatenate([np.broadcast_to(offsets.get(t, np.zeros(1)), (blueprint.channels(t),)) for t in block.inputs])
    return wide[block.arrays["channels"]] if block.kind == "select" else wide


def _gives_back(reader: Block, shiftable: set[str], source: Block, plan: Plan, padding: bool) -> bool:
    """Whether a reader takes the shift of what `source` writes back. A function takes one number for all channels; padding with one needs no frame, a whole one of steps no
    rounding: that of a function."""
    if reader.output in shiftable and (reader.kind == "add" or moves(reader)):
        return True
    if reader.kind == "lookup":
        return source.kind in (*LINEAR, "lookup") and not plan.layers[source.name].per_axis
    return reader.kind in WHOLE and (padding and source.kind == "lookup" or not any(reader.pads))


def _step_from_zero(block: Block, layer: LayerPlan) -> Floats:
    """A 255th of the range that begins at zero; a ReLU's bound ends it."""
    assert block.activation is not None
    widest = np.maximum(layer.absmax, float(layer.absmax.max(initial=0.0)) * CHANNEL_FLOOR or SILENT)
    return np.minimum(widest, np.inf if block.activation.bound is None else block.activation.bound) / 255


def _middle(layer: LayerPlan) -> tuple[Floats, Floats]:
    """The middle of what the integers cover, and how far that reaches to either side: the calibrated range with its margin, moved so that it ends at zero rather
    than beyond. What was never negative is taken not to be, and goes further the other way. A constant has steps of its own size: readers count its shift in them."""
    low, high = layer.extremes
    middle = (low + high) / 2.0
    width = replace(layer, low=low - middle, high=high - middle).absmax
    width = width if width.any() else np.abs(middle)
    return np.where(low >= 0, np.maximum(middle, width), np.where(high <= 0, np.minimum(middle, -width), middle)), width


def _padded(tensor: str, blueprint: Blueprint) -> bool:
    """Whether a layer pads a tensor, or what moves it."""
    return any(any(reader.pads) or moves(reader) and _padded(reader.output, blueprint) for reader in blueprint.consumers(tensor))


def _with_zero(layer: LayerPlan) -> LayerPlan:
    """The range and the zero that pads it."""
    low, high = layer.extremes
    return replace(layer, low=np.minimum(low, 0.0), high=np.maximum(high, 0.0))


def _heard(layer: LayerPlan, readers: Sequence[Block], plan: Plan) -> LayerPlan:
    """The range of what one function reads and nobody else, less what makes no difference to it."""
    if len(readers) != 1 or readers[0].kind != "lookup" or readers[0].activation is None:
        return layer
    low, high = (float(end[0]) for end in layer.extremes)
    if low == high:
        return layer
    heard = plan.layers[readers[0].name]
    unit = float(heard.absmax.max()) / qmax(heard.output_bits or 8)
    ends = varying(readers[0].activation, low, high, unit)
    return replace(layer, **{name: np.array([end]) for name, end in zip(("low", "high"), ends, strict=True)})


def _on_grid(middle: Floats, width: Floats, top: int) -> tuple[Floats, Floats]:
    """The same to the next whole number of steps, of which `top` reach to either side, half a step wider: zero is an integer then, as DequantizeLinear has it."""
    step = np.where(width > 0, width, 1.0) / (top - 0.5)
    return np.where(width > 0, np.rint(middle / step) * step, middle), np.where(width > 0, top * step, 0.0)


def _moved(layer: LayerPlan, offset: Floats) -> LayerPlan:
    low, high = layer.extremes
    return replace(layer, low=low - offset, high=high - offset)


def _shifted(block: Block, offset: Floats) -> Block:
    assert block.weight is not None
    return block.with_arrays(bias=np.broadcast_to(block.arrays.get("bias", np.zeros(1)) - offset, (len(block.weight),)))


def _restored(block: Block, offsets: Mapping[str, Floats]) -> Block:
    """A block reads t - c where it read t: the bias of a linear one gains sum(W c), a normalization or a function adds c, which is the same for all channels: they read
    tensors of one step."""
    offset = offsets.get(block.inputs[0]) if block.inputs else None
    if offset is None or block.kind not in (*WHOLE, *ADDS):
        return block
    return block.with_arrays(offset=offset[:1]) if block.kind in ADDS else absorb(block, np.ones(1), offset)
